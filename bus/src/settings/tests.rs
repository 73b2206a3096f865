use super::*;
use serde::Deserialize;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    bus: BusSettings,
    log: LogSettings,
    database: DatabaseSettings,
}

impl Settings for Example {
    const DEFAULTS: &'static [&'static str] = &[BUS_DEFAULTS, LOG_DEFAULTS, DATABASE_DEFAULTS];

    fn faults(&self) -> Vec<String> {
        [self.bus.faults(), self.database.faults()].concat()
    }
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn defaults_alone_are_valid_and_name_every_field() {
    let settings: Example = load(None, []).unwrap();
    let printed: toml::Table = print(&settings).unwrap().parse().unwrap();
    let documented: toml::Table = Example::DEFAULTS.concat().parse().unwrap();
    for (section, keys) in &printed {
        let keys: Vec<_> = keys.as_table().unwrap().keys().collect();
        let mut documented: Vec<_> = documented[section].as_table().unwrap().keys().collect();
        documented.sort();
        let mut keys = keys.clone();
        keys.sort();
        assert_eq!(keys, documented, "[{section}]");
    }
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = file("[bus]\nreplicas = 3\nurl = \"nats://file:1\"\n[ingest]\nsomebody = \"else's\"\n");
    let settings: Example =
        load(Some(file.path()), environment(&[("PINACLE__BUS__URL", "nats://environment:1"), ("HOME", "/")])).unwrap();
    assert_eq!((settings.bus.replicas, settings.bus.url.as_str()), (3, "nats://environment:1"));
    assert_eq!(settings.log.filter, "info");
}

#[test]
fn all_faults_are_reported_at_once() {
    let file = file("[bus]\nreplicas = 2\nurll = \"x\"\n[nonsense]\na = 1\n[database]\nmax_connections = \"many\"\n");
    let error = load::<Example>(Some(file.path()), environment(&[("PINACLE__LOG__FORMAT", "xml")])).unwrap_err();
    let text = error.to_string();
    for part in ["bus.replicas", "urll", "nonsense", "database.max_connections", "PINACLE__LOG__FORMAT"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert_eq!(error.faults.len(), 5, "{text}");
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_fault() {
    let error = load::<Example>(Some(Path::new("/nonexistent.toml")), []).unwrap_err();
    assert!(error.to_string().contains("/nonexistent.toml"), "{error}");
    let broken = file("[bus\n");
    assert!(load::<Example>(Some(broken.path()), []).is_err());
}

#[test]
fn secrets_are_read_from_files_and_never_printed() {
    let user = crate::trust::Keys::generate().host("host_1").unwrap();
    let (text, seed) = (user.to_text().unwrap(), user.key().seed().unwrap());
    let secret = file(&text);
    let given = |path: &str| environment(&[("PINACLE__BUS__CREDENTIALS", &format!("file:{path}"))]);
    let settings: Example = load(None, given(&secret.path().display().to_string())).unwrap();
    assert_eq!(settings.bus.user().unwrap().unwrap().name(), "host_1");
    let shown = format!("{}{settings:?}", print(&settings).unwrap());
    assert!(!shown.contains(&seed) && shown.contains("[redacted]"), "{shown}");

    let missing = load::<Example>(None, given("/nonexistent")).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent"), "{missing}");
    let none = file("hunter2");
    let refused = load::<Example>(None, given(&none.path().display().to_string())).unwrap_err().to_string();
    assert!(refused.contains("bus.credentials") && !refused.contains("hunter2"), "{refused}");
}

#[test]
fn a_secrets_file_is_read_again_and_told_when_others_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let kept = file("postgres://first\n");
    let set = |mode| std::fs::set_permissions(kept.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    let setting = format!("file:{}", kept.path().display());
    let settings: Example = load(None, environment(&[("PINACLE__DATABASE__URL", &setting)])).unwrap();
    let secret = settings.database.url;
    set(0o600);
    assert_eq!(secret.exposure(), None);
    for mode in [0o640, 0o604, 0o666] {
        set(mode);
        assert!(secret.exposure().unwrap().contains("chmod 600"), "{mode:o}");
    }
    std::fs::write(kept.path(), "postgres://second\n").unwrap();
    assert_eq!(secret.reread().unwrap().expose(), "postgres://second");
    let given = Secret::new("value");
    assert_eq!((given.exposure(), given.reread().unwrap().expose()), (None, "value"));
}
