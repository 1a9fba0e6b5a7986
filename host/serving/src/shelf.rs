//! Things that several models have in common, for as long as one of them is loaded.
//!
//! Contract: who asks for a thing while somebody has it gets the same one; who asks while it is being made waits for it;
//! when its last owner drops it, it is gone. Cost: a look-up, and for the first one to ask the making, which blocks.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Things by what they are.
pub(crate) struct Shelf<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
}

/// Locked while the thing is made.
type Slot<V> = Arc<Mutex<Weak<V>>>;

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self { slots: Mutex::default() }
    }
}

impl<K: Eq + Hash, V> Shelf<K, V> {
    /// The thing of that key; made where nobody has it.
    pub(crate) fn get_or_make<E>(&self, key: K, make: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let slot = {
            // Nothing panics under this lock, so that a poisoned one is as good as any.
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || is_held(slot));
            Arc::clone(slots.entry(key).or_default())
        };
        // Where the making panicked, there is still nothing in it.
        let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thing) = held.upgrade() {
            return Ok(thing);
        }
        let thing = Arc::new(make()?);
        *held = Arc::downgrade(&thing);
        Ok(thing)
    }
}

fn is_held<V>(slot: &Slot<V>) -> bool {
    slot.try_lock().map_or(true, |held| held.strong_count() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_there_once_while_somebody_has_it() {
        let shelf = Shelf::default();
        let make = |value: u32| shelf.get_or_make("a", move || Ok::<_, ()>(value)).unwrap();
        let first = make(1);
        assert!(Arc::ptr_eq(&first, &make(2)));
        drop(first);
        assert_eq!(*make(3), 3);
        assert_eq!(shelf.get_or_make("b", || Err::<u32, _>("no")), Err("no"));
        drop(make(4));
        assert_eq!(*shelf.get_or_make("c", || Ok::<_, ()>(5)).unwrap(), 5);
        assert_eq!(shelf.slots.lock().unwrap().len(), 1);
    }

    #[test]
    fn who_asks_while_it_is_made_waits_for_it() {
        let shelf = Shelf::default();
        let made = Mutex::new(0);
        let all: Vec<Arc<u32>> = std::thread::scope(|scope| {
            let ask = || {
                shelf.get_or_make((), || {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    *made.lock().unwrap() += 1;
                    Ok::<_, ()>(7)
                })
            };
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|asking| asking.join().unwrap().unwrap()).collect()
        });
        assert_eq!((all.len(), *made.lock().unwrap()), (8, 1));
    }
}
