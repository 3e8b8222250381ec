//! Who hears what.
//!
//! Membership is kept twice, each side knowing its place in the other, so that subscribing,
//! unsubscribing and leaving cost the same however many subscribers a topic has.

use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;

/// A subscription as its subscriber keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    topic: u32,
    place: u32,
}

/// A topic, as long as it has a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicId(u32);

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    /// Slots of subscribers, in no order.
    subscribers: Vec<u32>,
    /// What messages in it begin with, where somebody has said that.
    opening: Option<Box<[u8]>>,
}

/// All topics that have a subscriber.
#[derive(Debug, Default)]
pub struct Topics {
    by_name: HashMap<Arc<str>, u32>,
    topics: Slab<Topic>,
}

/// Access to the memberships of the subscriber in a slot.
pub trait Memberships {
    /// The memberships of `slot`, if somebody is there.
    fn memberships(&mut self, slot: u32) -> Option<&mut Vec<Membership>>;
}

impl Topics {
    /// Whether the subscriber with these memberships hears `name`.
    pub fn hears(&self, memberships: &[Membership], name: &str) -> bool {
        self.by_name.get(name).is_some_and(|id| memberships.iter().any(|m| m.topic == *id))
    }

    /// Let `slot` hear `name`. False if it already does.
    pub fn subscribe(&mut self, all: &mut impl Memberships, slot: u32, name: &str) -> bool {
        let Some(mine) = all.memberships(slot) else { return false };
        if self.hears(mine, name) {
            return false;
        }
        let id = self.id_of(name);
        let Some(topic) = self.topics.get_mut(id as usize) else { return false };
        mine.push(Membership { topic: id, place: index(topic.subscribers.len()) });
        topic.subscribers.push(slot);
        true
    }

    /// Let `slot` no longer hear `name`. False if it did not. O(its own memberships).
    pub fn unsubscribe(&mut self, all: &mut impl Memberships, slot: u32, name: &str) -> bool {
        let Some(&id) = self.by_name.get(name) else { return false };
        let Some(mine) = all.memberships(slot) else { return false };
        let Some(at) = mine.iter().position(|m| m.topic == id) else { return false };
        let membership = mine.swap_remove(at);
        self.leave(all, membership);
        true
    }

    /// Take a subscriber out of every topic; `memberships` is what it had.
    pub fn leave_all(&mut self, all: &mut impl Memberships, memberships: Vec<Membership>) {
        for membership in memberships {
            self.leave(all, membership);
        }
    }

    /// The topic of that name, if it has a subscriber.
    pub fn find(&self, name: &str) -> Option<TopicId> {
        self.by_name.get(name).map(|id| TopicId(*id))
    }

    /// The slots that hear `name`.
    pub fn subscribers(&self, name: &str) -> &[u32] {
        self.find(name).map(|topic| self.subscribers_of(topic)).unwrap_or_default()
    }

    /// The slots that hear a topic.
    pub fn subscribers_of(&self, topic: TopicId) -> &[u32] {
        let topic = self.topics.get(topic.0 as usize);
        topic.map(|topic| topic.subscribers.as_slice()).unwrap_or_default()
    }

    /// What messages in a topic begin with, if that [was said](Self::open).
    pub fn opening(&self, topic: TopicId) -> Option<&[u8]> {
        self.topics.get(topic.0 as usize)?.opening.as_deref()
    }

    /// Say what messages in `name` begin with, as long as it has a subscriber. False where it has
    /// none.
    pub fn open(&mut self, name: &str, opening: &[u8]) -> bool {
        let topic = self.find(name).and_then(|topic| self.topics.get_mut(topic.0 as usize));
        topic.map(|topic| topic.opening = Some(opening.into())).is_some()
    }

    /// How many topics have a subscriber.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether `name` has a subscriber.
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Every topic with the number of its subscribers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.topics.iter().map(|(_, topic)| (&*topic.name, topic.subscribers.len()))
    }

    /// The names of these memberships, in no order.
    pub fn names<'a>(&'a self, memberships: &'a [Membership]) -> impl Iterator<Item = &'a str> {
        memberships.iter().filter_map(|m| self.topics.get(m.topic as usize)).map(|t| &*t.name)
    }

    fn id_of(&mut self, name: &str) -> u32 {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let name: Arc<str> = name.into();
        let topic = Topic { name: Arc::clone(&name), subscribers: Vec::new(), opening: None };
        let id = index(self.topics.insert(topic));
        self.by_name.insert(name, id);
        id
    }

    /// Remove one place; whoever was last in the topic moves there.
    fn leave(&mut self, all: &mut impl Memberships, membership: Membership) {
        let Some(topic) = self.topics.get_mut(membership.topic as usize) else { return };
        topic.subscribers.swap_remove(membership.place as usize);
        if let Some(&moved) = topic.subscribers.get(membership.place as usize) {
            let theirs = all.memberships(moved).into_iter().flatten();
            for m in theirs.filter(|m| m.topic == membership.topic) {
                m.place = membership.place;
            }
        }
        if topic.subscribers.is_empty() {
            let topic = self.topics.remove(membership.topic as usize);
            self.by_name.remove(&topic.name);
        }
    }
}

/// Slots and places have 32 bits: there are never more than that many descriptors.
#[allow(clippy::cast_possible_truncation)]
const fn index(value: usize) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Slots(BTreeMap<u32, Vec<Membership>>);

    impl Memberships for Slots {
        fn memberships(&mut self, slot: u32) -> Option<&mut Vec<Membership>> {
            Some(self.0.entry(slot).or_default())
        }
    }

    #[test]
    fn a_topic_lives_as_long_as_it_has_a_subscriber() {
        let (mut topics, mut slots) = (Topics::default(), Slots::default());
        assert!(topics.subscribe(&mut slots, 1, "chat"));
        assert!(!topics.subscribe(&mut slots, 1, "chat"), "twice");
        assert_eq!(topics.iter().collect::<Vec<_>>(), [("chat", 1)]);
        let topic = topics.find("chat").unwrap();
        assert_eq!(topics.opening(topic), None);
        assert!(topics.open("chat", b"in chat: "));
        assert_eq!(topics.opening(topic), Some(&b"in chat: "[..]));
        assert!(topics.unsubscribe(&mut slots, 1, "chat"));
        assert!(!topics.unsubscribe(&mut slots, 1, "chat"), "not subscribed");
        assert_eq!(topics.iter().count(), 0);
        assert!(topics.by_name.is_empty());
        assert_eq!(topics.find("chat"), None);
        assert!(!topics.open("chat", b"in chat: "), "nobody hears it");
        assert!(topics.subscribe(&mut slots, 2, "room"), "in the place of the one that is gone");
        assert_eq!(topics.opening(topics.find("room").unwrap()), None);
    }

    proptest! {
        /// Against the plain model: a set of (slot, topic).
        #[test]
        fn any_history_agrees_with_a_set_of_pairs(
            steps in prop::collection::vec((0..3_u8, 0..6_u32, 0..4_u8), 0..200)
        ) {
            let (mut topics, mut slots) = (Topics::default(), Slots::default());
            let mut model = BTreeSet::new();
            for (step, slot, topic) in steps {
                let name = format!("t{topic}");
                match step {
                    0 => prop_assert_eq!(
                        topics.subscribe(&mut slots, slot, &name),
                        model.insert((slot, name))
                    ),
                    1 => prop_assert_eq!(
                        topics.unsubscribe(&mut slots, slot, &name),
                        model.remove(&(slot, name))
                    ),
                    _ => {
                        let all = slots.0.remove(&slot).unwrap_or_default();
                        topics.leave_all(&mut slots, all);
                        model.retain(|(s, _)| *s != slot);
                    }
                }
                for topic in 0..4 {
                    let name = format!("t{topic}");
                    let heard: BTreeSet<u32> = topics.subscribers(&name).iter().copied().collect();
                    let expected: BTreeSet<u32> =
                        model.iter().filter(|(_, n)| *n == name).map(|(s, _)| *s).collect();
                    prop_assert_eq!(heard, expected);
                }
            }
        }
    }
}
