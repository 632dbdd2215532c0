//! The program's own data in the same transaction as the result: exactly once.
//!
//! `cargo run --features transaction --example business_data`

use std::time::Duration;

use idemstore::redb::{ReadableTable, TableDefinition};
use idemstore::{Begin, Completed, Fingerprint, Key, Store, redb};

type Error = Box<dyn std::error::Error>;

const BALANCES: TableDefinition<&str, u64> = TableDefinition::new("balances");
/// Messages to other systems, each under the id of its transfer.
const OUTBOX: TableDefinition<&str, &str> = TableDefinition::new("outbox");

struct Transfer<'t> {
    id: &'t str,
    from: &'t str,
    to: &'t str,
    cents: u64,
}

/// Moves money, or returns the result of the first time.
fn transfer(store: &Store, transfer: &Transfer<'_>) -> Result<Completed, Error> {
    let Transfer { id, from, to, cents } = *transfer;
    if from == to {
        return Err("an account cannot pay itself".into());
    }
    let key = Key::scoped("transfers", id)?;
    let request = Fingerprint::of_parts([from, to, &cents.to_string()]);
    let mut begin = store.begin(&key, request)?;
    if let Begin::InFlight(in_flight) = begin {
        begin = in_flight.wait(Duration::from_secs(5))?;
    }
    let permit = match begin {
        Begin::Fresh(permit) => permit,
        Begin::Replay(completed) => return Ok(completed),
        Begin::Mismatch => return Err("this id was used for another transfer".into()),
        Begin::NotKept(_) => return Err("done before, and its result was too long to keep".into()),
        Begin::InFlight(_) | Begin::Interrupted(_) => return Err("not now: try again".into()),
    };
    Ok(permit.complete_with(|transaction| {
        let mut balances = transaction.open_table(BALANCES)?;
        let has = balances.get(from)?.map_or(0, |balance| balance.value());
        let had = balances.get(to)?.map_or(0, |balance| balance.value());
        let (Some(left), Some(sum)) = (has.checked_sub(cents), had.checked_add(cents)) else {
            // A final refusal is a result. It is stored, and nothing else is.
            return Ok("refused".to_owned());
        };
        balances.insert(from, left)?;
        balances.insert(to, sum)?;
        let mut outbox = transaction.open_table(OUTBOX)?;
        outbox.insert(id, format!("{cents} from {from} to {to}").as_str())?;
        // An `Err` instead would undo all of it, and free the key.
        Ok::<_, redb::Error>(format!("{left} cents left"))
    })?)
}

/// Writes the first balances. A table that has them already is left as it is.
fn set_up(store: &Store, balances: &[(&str, u64)]) -> Result<(), Error> {
    store.transaction(|transaction| {
        let mut table = transaction.open_table(BALANCES)?;
        for (account, cents) in balances {
            if table.get(*account)?.is_none() {
                table.insert(*account, *cents)?;
            }
        }
        Ok::<_, redb::Error>(())
    })?;
    Ok(())
}

fn balance(store: &Store, account: &str) -> Result<u64, Error> {
    let balances = store.read_transaction()?.open_table(BALANCES)?;
    Ok(balances.get(account)?.map_or(0, |cents| cents.value()))
}

fn main() -> Result<(), Error> {
    let store = Store::in_memory()?; // A service opens a directory instead.
    set_up(&store, &[("ann", 100), ("bob", 0)])?;

    let rent = Transfer { id: "1", from: "ann", to: "bob", cents: 70 };
    for _ in 0..2 {
        let answer = transfer(&store, &rent)?;
        println!("the rent: {}", String::from_utf8_lossy(answer.result()));
        assert_eq!(answer.result(), b"30 cents left");
    }
    assert_eq!(transfer(&store, &Transfer { id: "2", ..rent })?.result(), b"refused");
    assert!(transfer(&store, &Transfer { cents: 71, ..rent }).is_err());

    let (ann, bob) = (balance(&store, "ann")?, balance(&store, "bob")?);
    println!("ann has {ann} cents, and bob has {bob}");
    assert_eq!((ann, bob), (30, 70), "the rent was paid once");
    let outbox = store.read_transaction()?.open_table(OUTBOX)?;
    assert!(outbox.get("1")?.is_some() && outbox.get("2")?.is_none());
    Ok(())
}
