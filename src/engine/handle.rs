//! How the world outside the engine names a connection.

/// A slot and the generation of its tenant. No handle is 0: generations begin with 1.
///
/// Slots are used again, generations are not: a stale handle is inert, and never means somebody
/// else's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(u64);

impl Handle {
    /// What is never a handle.
    pub const NOBODY: Self = Self(0);

    /// The handle of generation `generation` in `slot`.
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | slot as u64)
    }

    /// The handle as one number, for a caller to keep.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The handle that [`to_bits`](Self::to_bits) gave. Any other number is a stale handle.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The slot.
    #[allow(clippy::cast_possible_truncation)] // The low half is the slot.
    pub const fn slot(self) -> u32 {
        self.0 as u32
    }

    /// The generation.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// The bits of a generation that are not the number of the shard.
const GENERATION_BITS: u32 = 26;

/// The most shards that a server has: their numbers have 6 bits.
pub const MOST_SHARDS: usize = 1 << (u32::BITS - GENERATION_BITS);

impl Handle {
    /// The number of the shard that has made it, if that is one of several.
    pub const fn shard(self) -> usize {
        (self.generation() >> GENERATION_BITS) as usize
    }
}

/// The generations that one shard gives out, one after the other. Those of several shards of a
/// server have nothing in common: a handle says whose it is, and means nothing to the others.
#[derive(Debug, Clone)]
pub struct Generations {
    first: u32,
    last: u32,
    next: u32,
}

impl Default for Generations {
    /// Those of a shard that is alone.
    fn default() -> Self {
        Self { first: 1, last: u32::MAX, next: 1 }
    }
}

impl Generations {
    /// Those of one of several shards.
    pub const fn of_shard(number: u32) -> Self {
        let first = (number << GENERATION_BITS) + 1;
        Self {
            first,
            last: number << GENERATION_BITS | u32::MAX >> (u32::BITS - GENERATION_BITS),
            next: first,
        }
    }

    /// The next one. After the last one it is the first again.
    pub fn pass(&mut self) -> u32 {
        let generation = self.next;
        self.next = if generation == self.last { self.first } else { generation + 1 };
        generation
    }

    /// Whether a handle is one of another shard.
    pub fn are_foreign_to(&self, handle: Handle) -> bool {
        handle != Handle::NOBODY && !(self.first..=self.last).contains(&handle.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_of_a_shard_begin_again_and_are_never_0() {
        let mut generations = Generations { next: u32::MAX, ..Generations::default() };
        assert_eq!([generations.pass(), generations.pass()], [u32::MAX, 1]);
        for number in [0, 1, 63] {
            let mut generations = Generations::of_shard(number);
            let (first, last) = (generations.first, generations.last);
            assert_ne!(first, 0);
            assert_eq!(last - first, (1 << GENERATION_BITS) - 2, "never the neighbour's");
            generations.next = last;
            for expected in [last, first] {
                let handle = Handle::new(7, generations.pass());
                assert_eq!((handle.generation(), handle.shard()), (expected, number as usize));
                assert!(!generations.are_foreign_to(handle));
                assert!(Generations::of_shard(number ^ 1).are_foreign_to(handle));
            }
        }
        assert!(!Generations::of_shard(1).are_foreign_to(Handle::NOBODY));
    }

    #[test]
    fn slot_and_generation_survive_the_round_trip() {
        let handle = Handle::new(u32::MAX, 7);
        assert_eq!(Handle::from_bits(handle.to_bits()), handle);
        assert_eq!((handle.slot(), handle.generation()), (u32::MAX, 7));
    }
}
