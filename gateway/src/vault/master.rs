//! Master keys, as the setting has them.

use pinacle_bus::{crypto::Key, settings::Secret};

/// More are of no use: after a rotation the former one can go once no backup of before is wanted any more.
const MOST: usize = 8;

/// The master keys: the first wraps, all of them open.
pub struct MasterKeys {
    current: Key,
    former: Vec<Key>,
}

impl MasterKeys {
    /// One key or several, each of 64 hexadecimal digits, between white space or commas.
    ///
    /// # Errors
    /// Why they cannot be used; it tells nothing of them.
    pub fn parse(setting: &Secret) -> Result<Self, String> {
        let words = setting.expose().split(|letter: char| letter.is_whitespace() || letter == ',');
        let keys: Option<Vec<Key>> = words.filter(|word| !word.is_empty()).map(Key::from_hex).collect();
        let mut keys = keys
            .filter(|keys| (1..=MOST).contains(&keys.len()))
            .ok_or_else(|| format!("must be 1 to {MOST} keys of 64 hexadecimal digits each, the current one first"))?;
        let current = keys.remove(0);
        Ok(Self { current, former: keys })
    }

    /// The one that wraps.
    pub fn current(&self) -> &Key {
        &self.current
    }

    /// The one of this id.
    pub fn find(&self, id: &str) -> Option<Key> {
        std::iter::once(&self.current).chain(&self.former).find(|key| key.id() == id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_wraps_and_all_of_them_are_found() {
        let [new, old] = [Key::random(), Key::random()];
        for between in [" ", "\n", ", ", "\r\n"] {
            let setting = Secret::new(format!("{}{between}{}", *new.to_hex(), *old.to_hex()));
            let keys = MasterKeys::parse(&setting).unwrap();
            assert_eq!(keys.current().id(), new.id());
            assert_eq!(keys.find(&old.id()).unwrap().id(), old.id());
            assert!(keys.find(&Key::random().id()).is_none());
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_told() {
        let good = Key::random().to_hex();
        for wrong in
            [String::new(), "secret-word".into(), format!("{} secret-word", *good), [good.as_str(); 9].join(" ")]
        {
            let why = MasterKeys::parse(&Secret::new(wrong)).err().unwrap();
            assert!(!why.contains("secret-word") && !why.contains(good.as_str()), "{why}");
        }
    }
}
