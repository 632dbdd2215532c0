//! Data of the program's own in the same transaction as the result: exactly once.
//!
//! `cargo run --features transaction --example business_data`

use idemstore::redb::{self, ReadableTable, TableDefinition};
use idemstore::{Begin, Fingerprint, Key, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const BALANCES: TableDefinition<&str, u64> = TableDefinition::new("balances");

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("store"))?;
    store.transaction(|transaction| {
        transaction.open_table(BALANCES)?.insert("ann", 100)?;
        Ok::<_, redb::Error>(())
    })?;
    for _ in 0..3 {
        println!("ann pays bob 30: {}", pay(&store, "transfer-1", "ann", "bob", 30)?);
    }
    println!("ann pays bob 99: {}", pay(&store, "transfer-2", "ann", "bob", 99)?);
    let balances = store.read_transaction()?.open_table(BALANCES)?;
    for row in balances.iter()? {
        let (account, cents) = row?;
        println!("{} has {}", account.value(), cents.value());
    }
    assert_eq!(balances.get("bob")?.map(|cents| cents.value()), Some(30), "it was paid once");
    Ok(())
}

/// Moves money. Both balances are written with the result, or nothing is: there is nothing in between that
/// a crash could leave.
fn pay(store: &Store, id: &str, from: &str, to: &str, cents: u64) -> Result<String> {
    let key = Key::scoped("transfers", id)?;
    let request = Fingerprint::of_parts([from, to, &cents.to_string()]);
    let permit = match store.begin(&key, request)? {
        Begin::Fresh(permit) => permit,
        Begin::Replay(said) => return Ok(String::from_utf8(said.result().to_vec())?),
        Begin::Mismatch => return Err("this id was used for another transfer".into()),
        Begin::InFlight(_) => return Err("it is being made: ask again".into()),
        Begin::NotKept(_) | Begin::Interrupted(_) => return Err("not by this program".into()),
    };
    let said = permit.complete_with(|transaction| {
        let mut balances = transaction.open_table(BALANCES)?;
        let has = balances.get(from)?.map_or(0, |cents| cents.value());
        let Some(left) = has.checked_sub(cents) else {
            // This is final, so it is a result. An `Err` would undo all of it, and free the key.
            return Ok("refused".to_owned());
        };
        let had = balances.get(to)?.map_or(0, |cents| cents.value());
        balances.insert(from, left)?;
        balances.insert(to, had + cents)?;
        Ok::<_, redb::Error>(format!("{left} left"))
    })?;
    Ok(String::from_utf8(said.result().to_vec())?)
}
