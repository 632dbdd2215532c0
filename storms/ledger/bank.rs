//! The bank's own tables, in the store's redb file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use idemstore::redb::{ReadableTable, StorageError, Table, TableDefinition, TableError};
use idemstore::{LOG_BYTES_DEFAULT, LOG_BYTES_MIN, OpenError, Store, Transaction};

use crate::Result;
use crate::transfer::{INITIAL_CENTS, Transfer};

/// The balance of each account.
const BALANCES: TableDefinition<u32, u64> = TableDefinition::new("balances");
/// The applications of transfers, counted from 1, with the transfer that each applied. A transfer
/// that is applied twice shows up here twice.
const JOURNAL: TableDefinition<u64, u32> = TableDefinition::new("journal");

/// Opens the store as this seed configures it. With a small log, segments fill up and are settled
/// all the time, even while the server is killed.
pub(crate) fn open(path: &Path, seed: u64) -> Result<Store, OpenError> {
    let log_bytes = if seed % 2 == 1 { LOG_BYTES_MIN } else { LOG_BYTES_DEFAULT };
    Store::builder().log_bytes(log_bytes).result_len_max(4096).open(path)
}

/// Gives each account its money, once. No client asks for this operation, so it has no key: it
/// looks in the same transaction whether it has already happened.
pub(crate) fn fill(store: &Store, accounts: u32) -> Result<()> {
    store.transaction(|transaction| {
        let mut balances = transaction.open_table(BALANCES)?;
        transaction.open_table(JOURNAL)?;
        if balances.first()?.is_none() {
            for account in 0..accounts {
                balances.insert(account, INITIAL_CENTS)?;
            }
        }
        Ok::<_, ApplyError>(())
    })?;
    Ok(())
}

/// Why a transfer was not applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The paying account has too little.
    #[error("there is too little money")]
    Refused,
    #[error("there is no such account")]
    NoAccount,
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Moves the money, and returns the receipt.
///
/// The paying account deliberately comes last: by the time a transfer is refused it has written
/// something, and all of that must be rolled back.
pub(crate) fn apply(
    transaction: &Transaction<'_>,
    transfer: &Transfer,
) -> Result<String, ApplyError> {
    let mut journal = transaction.open_table(JOURNAL)?;
    let number = journal.last()?.map_or(0, |(number, _)| number.value()) + 1;
    journal.insert(number, transfer.id)?;
    let mut balances = transaction.open_table(BALANCES)?;
    let to = balance(&balances, transfer.to)? + transfer.cents;
    balances.insert(transfer.to, to)?;
    let from = balance(&balances, transfer.from)?;
    let from = from.checked_sub(transfer.cents).ok_or(ApplyError::Refused)?;
    balances.insert(transfer.from, from)?;
    Ok(Receipt { number, transfer: transfer.id, from, to }.to_string())
}

fn balance(balances: &Table<'_, u32, u64>, account: u32) -> Result<u64, ApplyError> {
    let balance = balances.get(account)?.ok_or(ApplyError::NoAccount)?;
    Ok(balance.value())
}

/// The result of a transfer. No two applications have the same result, not even of one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// Counts the applications of all transfers.
    pub(crate) number: u64,
    pub(crate) transfer: u32,
    /// What both accounts had afterwards.
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Receipt {
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let mut words = std::str::from_utf8(text)?.split(' ').skip(1).step_by(2);
        let mut word = || words.next().ok_or("a receipt is too short");
        Ok(Self {
            number: word()?.parse()?,
            transfer: word()?.parse()?,
            from: word()?.parse()?,
            to: word()?.parse()?,
        })
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, transfer, from, to } = self;
        let line = format!("number {number} transfer {transfer} leaves {from} and {to} ");
        // Long results are stored apart from their records.
        let len = if transfer % 8 == 0 { 1_000 } else { 100 };
        write!(f, "{line:.<len$}")
    }
}

/// Everything in the bank's tables.
pub(crate) struct Books {
    pub(crate) balances: BTreeMap<u32, u64>,
    pub(crate) journal: BTreeMap<u64, u32>,
}

impl Books {
    pub(crate) fn read(store: &Store) -> Result<Self> {
        let transaction = store.read_transaction()?;
        let (mut balances, mut journal) = (BTreeMap::new(), BTreeMap::new());
        for row in transaction.open_table(BALANCES)?.iter()? {
            let (account, balance) = row?;
            balances.insert(account.value(), balance.value());
        }
        for row in transaction.open_table(JOURNAL)?.iter()? {
            let (number, transfer) = row?;
            journal.insert(number.value(), transfer.value());
        }
        Ok(Self { balances, journal })
    }
}
