//! Hosts' names: what people call them, each taken once.
//!
//! Two copies may admit two hosts of one name in the same instant. Both see it afterwards, and the host that was admitted
//! later gives way; which that is, both find alike.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use pinacle_bus::contract::{HostId, Timestamp};

/// A name that is a file name, a DNS label or so, and nothing that a terminal acts on.
const LONGEST: usize = 200;
/// What of its id tells a host from others of its name.
const SUFFIX: usize = 6;

/// Who bears which name. Cheap to clone; all clones share it.
#[derive(Clone, Default)]
pub struct Names {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    bearers: BTreeMap<String, BTreeSet<(Timestamp, HostId)>>,
    names: HashMap<HostId, (String, Timestamp)>,
}

impl Names {
    /// `host`, admitted at `admitted`, bears `name` now.
    pub fn put(&self, host: HostId, name: &str, admitted: Timestamp) {
        let mut inner = self.inner.lock();
        if inner.names.get(&host).is_some_and(|(known, at)| known == name && *at == admitted) {
            return;
        }
        inner.forget(host);
        inner.names.insert(host, (name.to_owned(), admitted));
        inner.bearers.entry(name.to_owned()).or_default().insert((admitted, host));
    }

    /// `host` is gone.
    pub fn remove(&self, host: HostId) {
        self.inner.lock().forget(host);
    }

    /// The hosts that share `name` with one that was admitted earlier.
    pub fn must_give_way(&self, name: &str) -> Vec<HostId> {
        let inner = self.inner.lock();
        inner.bearers.get(name).into_iter().flatten().skip(1).map(|(_, host)| *host).collect()
    }

    /// A name for `host`, made from its host name, that nobody else bears.
    pub fn free_for(&self, host: HostId, hostname: &str) -> String {
        let inner = self.inner.lock();
        let free = |name: &str| {
            inner.bearers.get(name).is_none_or(|bearers| bearers.iter().all(|(_, bearer)| *bearer == host))
        };
        let plain = cleaned(hostname);
        let id = host.to_string();
        let ksuid = id.rsplit('_').next().unwrap_or_default();
        let short = ksuid.get(ksuid.len().saturating_sub(SUFFIX)..).unwrap_or(ksuid);
        [plain.clone(), format!("{plain}-{short}")]
            .into_iter()
            // A name that reads like an id would stand for two hosts where people may give either.
            .find(|name| free(name) && name.parse::<HostId>().is_err())
            .unwrap_or_else(|| format!("{plain}-{ksuid}"))
    }
}

impl Inner {
    fn forget(&mut self, host: HostId) {
        let Some((name, admitted)) = self.names.remove(&host) else { return };
        if let Some(bearers) = self.bearers.get_mut(&name) {
            bearers.remove(&(admitted, host));
            if bearers.is_empty() {
                self.bearers.remove(&name);
            }
        }
    }
}

fn cleaned(hostname: &str) -> String {
    let clean: String = hostname
        .trim()
        .chars()
        .take(LONGEST)
        .map(|character| if character.is_ascii_alphanumeric() || "._-".contains(character) { character } else { '-' })
        .collect();
    if clean.chars().any(|character| character.is_ascii_alphanumeric()) { clean } else { "host".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    #[test]
    fn a_name_that_is_taken_gets_a_part_of_the_id() {
        let (names, first, second) = (Names::default(), HostId::new(), HostId::new());
        assert_eq!(names.free_for(first, "web"), "web");
        names.put(first, "web", at(1));
        assert_eq!(names.free_for(first, "web"), "web");
        let other = names.free_for(second, "web");
        assert!(other.starts_with("web-") && second.to_string().ends_with(&other[4..]), "{other}");
        names.remove(first);
        assert_eq!(names.free_for(second, "web"), "web");
    }

    #[test]
    fn of_two_that_bear_one_name_the_later_gives_way() {
        let (names, first, second) = (Names::default(), HostId::new(), HostId::new());
        names.put(second, "web", at(2));
        names.put(first, "web", at(1));
        assert_eq!(names.must_give_way("web"), vec![second]);
        names.put(second, "web-2", at(2));
        assert!(names.must_give_way("web").is_empty());
    }

    #[test]
    fn a_hostile_host_name_becomes_a_harmless_name() {
        let (names, host) = (Names::default(), HostId::new());
        assert_eq!(names.free_for(host, "\u{1b}[31m evil\n"), "-[31m-evil".replace('[', "-"));
        assert_eq!(names.free_for(host, "  "), "host");
        assert_eq!(names.free_for(host, "…"), "host");
        let id = HostId::new().to_string();
        assert_ne!(names.free_for(host, &id), id);
        assert_eq!(names.free_for(host, &"x".repeat(5000)).len(), LONGEST);
    }
}
