//! Inputs that are almost right: most of what is random is refused at its first byte.

/// Bytes that mean something to a parser of frames or HTTP.
const TELLING: &[u8] =
    b"\x00\x01\x02\x08\x09\x0a\x0d\x20\x40\x7d\x7e\x7f\x80\x81\x88\xc0\xf4\xff,;:=\"";

/// Most changes made to one input.
const MOST_CHANGES: usize = 6;

/// Longest input that it makes.
const MOST_BYTES: usize = 40_000;

pub struct Mutator<'a> {
    random: fastrand::Rng,
    corpus: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    pub fn new(seed: u64, corpus: &'a [Vec<u8>]) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), corpus }
    }

    /// The next input: one of the corpus with some changes.
    pub fn next(&mut self) -> Vec<u8> {
        let mut input = self.sample().to_vec();
        for _ in 0..self.random.usize(1..=MOST_CHANGES) {
            self.change(&mut input);
        }
        input.truncate(MOST_BYTES);
        input
    }

    fn sample(&mut self) -> &'a [u8] {
        &self.corpus[self.random.usize(..self.corpus.len())]
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.random.usize(..=input.len());
        let (start, end) = self.range(input.len());
        match self.random.u8(..8) {
            0 if at < input.len() => input[at] ^= 1 << self.random.u8(..8),
            1 if at < input.len() => input[at] = self.byte(),
            2 => input.insert(at, self.byte()),
            3 => drop(input.drain(start..end)),
            4 => {
                let piece = input[start..end].to_vec();
                input.splice(at..at, piece);
            }
            5 => {
                let other = self.sample();
                let (start, end) = self.range(other.len());
                input.splice(at..at, other[start..end].iter().copied());
            }
            // The beginnings are where the headers are.
            6 if !input.is_empty() => {
                let at = self.random.usize(..input.len().min(16));
                input[at] = self.byte();
            }
            _ => input.extend_from_slice(self.sample()),
        }
    }

    fn byte(&mut self) -> u8 {
        if self.random.bool() {
            TELLING[self.random.usize(..TELLING.len())]
        } else {
            self.random.u8(..)
        }
    }

    /// Mostly a short range, so that what is around it stays what it was.
    fn range(&mut self, len: usize) -> (usize, usize) {
        let start = self.random.usize(..=len);
        let longest = if self.random.u8(..4) == 0 { len } else { 16 };
        (start, (start + self.random.usize(..=longest)).min(len))
    }
}
