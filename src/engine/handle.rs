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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_and_generation_survive_the_round_trip() {
        let handle = Handle::new(u32::MAX, 7);
        assert_eq!(Handle::from_bits(handle.to_bits()), handle);
        assert_eq!((handle.slot(), handle.generation()), (u32::MAX, 7));
    }
}
