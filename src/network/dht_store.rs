//! What this node keeps of the DHT: records and providers that were checked before they came here.
//!
//! Pure but for the clock of the expiry. Owns their bounds. Always: nothing is kept beyond its time, a record is as small as
//! [`VALUE_BYTES`], and at a bound what is nearest to its end makes room.

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};
use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Records kept for others: a hundred times what a federation of thousands puts on one node.
const RECORDS: usize = 4_096;
/// Largest record.
pub(super) const VALUE_BYTES: usize = 4 * 1024;
/// How long a record may stay, whatever its sender says.
pub(super) const RECORD_LIFE: Duration = Duration::from_secs(120);
/// Keys for which providers are kept; the daemons use one.
const PROVIDED_KEYS: usize = 16;
/// Providers kept for one key.
const PROVIDERS: usize = 256;
/// Addresses kept of one peer, and the longest of them in bytes: anybody may tell more.
pub(super) const ADDRESSES: usize = 8;
pub(super) const ADDRESS_BYTES: usize = 512;
/// How long a provider stays without saying so again.
pub(super) const PROVIDER_LIFE: Duration = Duration::from_secs(30 * 60);

/// See the module's first lines.
pub(super) struct DhtStore {
    own: PeerId,
    records: HashMap<RecordKey, Record>,
    providers: HashMap<RecordKey, Vec<ProviderRecord>>,
}

impl DhtStore {
    pub(super) fn new(own: PeerId) -> Self {
        Self {
            own,
            records: HashMap::new(),
            providers: HashMap::new(),
        }
    }

    /// Forgets what has expired.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.records.retain(|_, record| !record.is_expired(now));
        for list in self.providers.values_mut() {
            list.retain(|provider| !provider.is_expired(now));
        }
        self.providers.retain(|_, list| !list.is_empty());
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}

impl RecordStore for DhtStore {
    type RecordsIter<'a> = std::vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::vec::IntoIter<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let live = |record: &&Record| !record.is_expired(Instant::now());
        self.records.get(key).filter(live).map(Cow::Borrowed)
    }

    fn put(&mut self, mut record: Record) -> Result<()> {
        if record.value.len() > VALUE_BYTES {
            return Err(Error::ValueTooLarge);
        }
        let latest = Instant::now() + RECORD_LIFE;
        record.expires = Some(record.expires.map_or(latest, |expires| expires.min(latest)));
        if self.records.len() >= RECORDS && !self.records.contains_key(&record.key) {
            let first = self.records.values().min_by_key(|kept| kept.expires);
            let first = first.map(|kept| kept.key.clone()).ok_or(Error::MaxRecords)?;
            self.records.remove(&first);
        }
        self.records.insert(record.key.clone(), record);
        Ok(())
    }

    fn remove(&mut self, key: &RecordKey) {
        self.records.remove(key);
    }

    /// None: nothing is replicated by the clock. Whose record it is publishes it again before it ends.
    fn records(&self) -> Self::RecordsIter<'_> {
        Vec::new().into_iter()
    }

    fn add_provider(&mut self, mut provider: ProviderRecord) -> Result<()> {
        let is_new = !self.providers.contains_key(&provider.key);
        if is_new && self.providers.len() >= PROVIDED_KEYS {
            return Err(Error::MaxProvidedKeys);
        }
        if provider.provider != self.own {
            let latest = Instant::now() + PROVIDER_LIFE;
            provider.expires = Some(provider.expires.map_or(latest, |expires| expires.min(latest)));
        }
        provider.addresses.retain(|address| address.len() <= ADDRESS_BYTES);
        provider.addresses.truncate(ADDRESSES);
        let list = self.providers.entry(provider.key.clone()).or_default();
        list.retain(|kept| kept.provider != provider.provider);
        if list.len() >= PROVIDERS {
            // Our own has no end and stays.
            let first = list
                .iter()
                .enumerate()
                .min_by_key(|(_, kept)| (kept.expires.is_none(), kept.expires));
            let first = first.map(|(index, _)| index).ok_or(Error::MaxProvidedKeys)?;
            list.remove(first);
        }
        list.push(provider);
        Ok(())
    }

    /// The newest first: of many only some are told to whoever asks.
    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let now = Instant::now();
        let live = self.providers.get(key).into_iter().flatten().rev();
        live.filter(|provider| !provider.is_expired(now)).cloned().collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let own = self.providers.values().flatten();
        let own = own.filter(|provider| provider.provider == self.own).map(Cow::Borrowed);
        own.collect::<Vec<_>>().into_iter()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if let Some(list) = self.providers.get_mut(key) {
            list.retain(|kept| kept.provider != *provider);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> RecordKey {
        RecordKey::new(&format!("/node/{n}"))
    }

    fn record(n: usize, life: Duration) -> Record {
        let mut record = Record::new(key(n), vec![0; 10]);
        record.expires = Some(Instant::now() + life);
        record
    }

    #[test]
    fn nothing_stays_beyond_its_time_or_ours() {
        let mut store = DhtStore::new(PeerId::random());
        store.put(record(1, Duration::ZERO)).unwrap();
        store.put(record(2, RECORD_LIFE * 100)).unwrap();
        let mut endless = record(3, Duration::ZERO);
        endless.expires = None;
        store.put(endless).unwrap();
        assert!(store.get(&key(1)).is_none() && store.get(&key(2)).is_some());
        store.sweep(Instant::now() + RECORD_LIFE);
        assert_eq!(store.len(), 0);
        let large = Record::new(key(4), vec![0; VALUE_BYTES + 1]);
        assert!(matches!(store.put(large), Err(Error::ValueTooLarge)));
    }

    #[test]
    fn a_full_store_gives_up_what_ends_first() {
        let mut store = DhtStore::new(PeerId::random());
        for n in 0..RECORDS {
            let life = Duration::from_secs(60) + Duration::from_millis(n as u64);
            store.put(record(n, life)).unwrap();
        }
        store.put(record(RECORDS, RECORD_LIFE)).unwrap();
        assert_eq!(store.len(), RECORDS);
        assert!(store.get(&key(0)).is_none() && store.get(&key(RECORDS)).is_some());
    }

    #[test]
    fn the_addresses_of_a_provider_are_bounded() {
        let mut store = DhtStore::new(PeerId::random());
        let at = |host: String| format!("/dns4/{host}/tcp/1").parse().unwrap();
        let mut addresses = vec![at("x".repeat(ADDRESS_BYTES))];
        addresses.extend((0..100).map(|n| at(format!("h{n}"))));
        let provider = ProviderRecord::new(key(0), PeerId::random(), addresses);
        store.add_provider(provider).unwrap();
        let kept = store.providers(&key(0)).remove(0).addresses;
        assert_eq!(
            (kept.len(), kept[0].to_string().as_str()),
            (ADDRESSES, "/dns4/h0/tcp/1")
        );
    }

    #[test]
    fn providers_are_bounded_and_our_own_stays() {
        let own = PeerId::random();
        let mut store = DhtStore::new(own);
        let mine = ProviderRecord::new(key(0), own, vec![]);
        store.add_provider(mine).unwrap();
        for _ in 0..PROVIDERS * 2 {
            let other = ProviderRecord::new(key(0), PeerId::random(), vec![]);
            store.add_provider(other).unwrap();
        }
        assert_eq!(store.providers(&key(0)).len(), PROVIDERS);
        assert_eq!(store.provided().count(), 1);
        for n in 1..PROVIDED_KEYS {
            store.add_provider(ProviderRecord::new(key(n), own, vec![])).unwrap();
        }
        let again = store.providers(&key(0)).last().unwrap().provider;
        store.add_provider(ProviderRecord::new(key(0), again, vec![])).unwrap();
        assert_eq!(
            store.providers(&key(0))[0].provider,
            again,
            "who told it last is told first"
        );
        assert_eq!(store.providers(&key(0)).len(), PROVIDERS);
        let further = ProviderRecord::new(key(PROVIDED_KEYS), own, vec![]);
        assert!(matches!(store.add_provider(further), Err(Error::MaxProvidedKeys)));
    }
}
