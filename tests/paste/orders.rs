use std::cell::RefCell;

use idemstore::{Begin, Completed, Fingerprint, Key, Store};

type Error = Box<dyn std::error::Error>;

// The code under test.

#[derive(Default)]
struct Bank {
    charges: RefCell<Vec<String>>,
}

fn pay(store: &Store, bank: &Bank, order: &str) -> Result<Option<Completed>, Error> {
    let key = Key::scoped("orders", order)?;
    Ok(Some(match store.begin(&key, Fingerprint::NONE)? {
        Begin::Fresh(permit) => {
            let execution = permit.start()?;
            bank.charges.borrow_mut().push(order.to_owned());
            execution.complete("paid")?
        }
        Begin::Replay(completed) => completed,
        Begin::Interrupted(interrupted) => {
            if bank.charges.borrow().iter().any(|charge| charge == order) {
                interrupted.resolve("paid")?
            } else {
                let execution = interrupted.retry()?;
                bank.charges.borrow_mut().push(order.to_owned());
                execution.complete("paid")?
            }
        }
        Begin::NotKept(_) | Begin::InFlight(_) | Begin::Mismatch => return Ok(None),
    }))
}

fn main() -> Result<(), Error> {
    let (store, bank) = (Store::in_memory()?, Bank::default());
    assert!(pay(&store, &bank, "1")?.is_some());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use idemstore::{ManualClock, Timestamp};

    use super::*;

    /// A store for one test. A small log takes less memory, and is settled often.
    fn store(clock: &ManualClock) -> Result<Store, Error> {
        Ok(Store::builder()
            .clock(clock.clone())
            .log_bytes(64 * 1024)
            .background_thread(false)
            .open_in_memory()?)
    }

    fn a_clock() -> ManualClock {
        ManualClock::new(Timestamp::from_unix_ms(1_700_000_000_000))
    }

    #[test]
    fn an_order_is_charged_once() -> Result<(), Error> {
        let (store, bank) = (store(&a_clock())?, Bank::default());
        for _ in 0..3 {
            assert_eq!(pay(&store, &bank, "1")?.expect("it is paid").result(), b"paid");
        }
        assert_eq!(bank.charges.borrow().len(), 1);
        Ok(())
    }

    #[test]
    fn after_a_crash_the_bank_is_asked() -> Result<(), Error> {
        let (store, bank) = (store(&a_clock())?, Bank::default());
        for (order, was_charged) in [("1", true), ("2", false)] {
            // As far as a killed process got: the start is durable, and there is no result.
            let begin = store.begin(&Key::scoped("orders", order)?, Fingerprint::NONE)?;
            let Begin::Fresh(permit) = begin else { panic!("the order is new") };
            let execution = permit.start()?;
            if was_charged {
                bank.charges.borrow_mut().push(order.to_owned());
            }
            drop(execution);

            pay(&store, &bank, order)?.expect("it is paid");
        }
        assert_eq!(*bank.charges.borrow(), ["1", "2"]);
        Ok(())
    }

    #[test]
    fn a_second_request_at_the_same_time_is_turned_away() -> Result<(), Error> {
        let (store, bank) = (store(&a_clock())?, Bank::default());
        let first = store.begin(&Key::scoped("orders", "1")?, Fingerprint::NONE)?;
        assert!(pay(&store, &bank, "1")?.is_none());
        // The first request was refused: its permit is dropped, and the key is free.
        drop(first);
        assert!(pay(&store, &bank, "1")?.is_some());
        Ok(())
    }

    #[test]
    fn after_a_day_the_order_may_be_sent_again() -> Result<(), Error> {
        let (clock, bank) = (a_clock(), Bank::default());
        let store = store(&clock)?;
        pay(&store, &bank, "1")?;
        clock.advance(Duration::from_secs(24 * 60 * 60) - Duration::from_millis(1));
        pay(&store, &bank, "1")?;
        assert_eq!(bank.charges.borrow().len(), 1);
        clock.advance(Duration::from_millis(1));
        pay(&store, &bank, "1")?;
        assert_eq!(bank.charges.borrow().len(), 2);
        Ok(())
    }

    #[test]
    fn without_its_store_nothing_is_charged() -> Result<(), Error> {
        let (store, bank) = (store(&a_clock())?, Bank::default());
        store.clone().close()?;
        let error = pay(&store, &bank, "1").expect_err("the store is closed");
        assert!(matches!(error.downcast_ref(), Some(idemstore::Error::Closed)));
        assert!(bank.charges.borrow().is_empty());
        Ok(())
    }
}
