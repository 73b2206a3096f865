use super::*;

fn host_credentials() -> (Keys, HostId, Credentials) {
    let keys = Keys::generate();
    let authority = keys.authority().unwrap();
    let (host, user) = (HostId::new(), KeyPair::new_user());
    let end = Timestamp::from_millis(4_000_000_000_000).unwrap();
    let jwt = host_jwt(&authority.hosts, &authority.account.account, host, &user.public_key(), end).unwrap();
    (keys, host, Credentials::new(jwt, user).unwrap())
}

#[test]
fn credentials_survive_their_text_and_are_never_shown() {
    let (_, host, credentials) = host_credentials();
    let text = credentials.to_text().unwrap();
    let read = Credentials::parse(&text).unwrap();
    assert_eq!((read.name(), read.jwt()), (host.to_string().as_str(), credentials.jwt()));
    assert_eq!(read.expires_at(), Timestamp::from_millis(4_000_000_000_000));
    assert_eq!(read.to_text().unwrap(), text);
    let shown = format!("{read:?}");
    assert!(!shown.contains(&credentials.key().seed().unwrap()) && !shown.contains("eyJ"), "{shown}");
    assert_eq!(Credentials::parse(&text.replace('\n', "\r\n")).unwrap().jwt(), credentials.jwt());
}

#[test]
fn claims_that_were_changed_or_belong_to_another_key_are_refused() {
    let (_, _, credentials) = host_credentials();
    let other = Credentials::new(credentials.jwt(), KeyPair::new_user());
    assert!(matches!(other, Err(TrustError::Malformed(_))), "{other:?}");
    let (signed, _) = credentials.jwt().rsplit_once('.').unwrap();
    let (_, _, stranger) = host_credentials();
    let (_, signature) = stranger.jwt().rsplit_once('.').unwrap();
    let forged = Credentials::new(format!("{signed}.{signature}"), credentials.key().clone());
    assert!(matches!(forged, Err(TrustError::Signature)), "{forged:?}");
    for text in ["", "x", "a.b.c", "-----BEGIN NATS USER JWT-----\neyJ\n"] {
        assert!(Credentials::parse(text).is_err(), "{text}");
    }
}

#[test]
fn keys_of_the_wrong_kind_are_refused() {
    let keys = Keys::generate();
    let authority = keys.authority().unwrap();
    let (user, account, now) = (KeyPair::new_user().public_key(), &authority.account, Timestamp::now());
    let host = HostId::new();
    assert!(host_jwt(&authority.hosts, &user, host, &user, now).is_err());
    assert!(host_jwt(&authority.hosts, &account.account, host, &account.account, now).is_err());
    assert!(account_jwt(&authority.operator, account, &[(account.hosts.clone(), now)]).is_err());
    assert!(account_jwt(&authority.operator, account, &[(user, now)]).is_ok());
}

#[test]
fn only_the_holder_of_a_key_signs_for_it() {
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let signature = user.sign(b"enrol").unwrap();
    verify(&user.public_key(), b"enrol", &signature).unwrap();
    assert!(verify(&user.public_key(), b"other", &signature).is_err());
    assert!(verify(&other.public_key(), b"enrol", &signature).is_err());
    assert!(verify(&user.public_key(), b"enrol", &signature[..63]).is_err());
    let account = KeyPair::new_account();
    assert!(verify(&account.public_key(), b"enrol", &account.sign(b"enrol").unwrap()).is_err());
}

#[test]
fn an_installation_survives_its_text() {
    let keys = Keys::generate();
    let text = keys.to_text().unwrap();
    assert_eq!(Keys::parse(&text).unwrap().to_text().unwrap(), text);
    let authority = keys.authority().unwrap();
    let read = Authority::parse(&authority.to_text().unwrap()).unwrap();
    assert_eq!(read.account, authority.account);
    assert_eq!(read.system_user.jwt(), authority.system_user.jwt());
    assert!(Authority::parse(&text).is_err() && Keys::parse("{}").is_err());
}
