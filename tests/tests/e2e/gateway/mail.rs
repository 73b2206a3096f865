//! Mail to people, over a real mail server: sign-up, lost passwords, and that nothing tells who has an account.

use pinacle_tests::{eventually, peers::Mail};
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, PgConnection};

use super::{
    browser::{Browser, PASSWORD, first_admin, secret},
    stage::{SOON, Stage},
};

const NEW: &str = "granite-Waffle-monsoon-7";

/// The link of the newest letter that holds one which is not in `before`.
async fn link(mail: &Mail, email: &str, before: &[String]) -> String {
    link_to("/set-password#", mail, email, before).await
}

/// The same with a link to this page.
async fn link_to(page: &str, mail: &Mail, email: &str, before: &[String]) -> String {
    eventually(SOON, "a letter with a link", async || {
        let letters = mail.to(email);
        let words = letters.iter().flat_map(|letter| letter.split_whitespace());
        let found = words.filter(|word| word.contains(page)).map(str::to_owned);
        found.into_iter().find(|link| !before.contains(link)).ok_or(letters)
    })
    .await
}

async fn start(mail: &Mail, more: &[(&str, &str)]) -> Stage {
    let url = format!("smtp://{}", mail.address);
    let own = [
        ("PINACLE__GATEWAY__SMTP_URL", url.as_str()),
        ("PINACLE__GATEWAY__MAIL_FROM", "Pinacle <pinacle@example.org>"),
    ];
    Stage::start_with(&[own.as_slice(), more].concat()).await
}

#[tokio::test]
async fn who_signs_up_proves_the_address_by_the_mail() {
    let mail = Mail::start().await;
    let stage = start(&mail, &[("PINACLE__GATEWAY__SIGN_UP", "open")]).await;
    let mut admin = first_admin(&stage).await;
    let mut ann = Browser::new(&stage);
    let name = "Ann http://spam.example";
    let asked = ann.send(Method::POST, "/accounts", Some(json!({ "email": "Ann@Example.org", "name": name }))).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let first = link(&mail, "ann@example.org", &[]).await;
    let letter = mail.to("ann@example.org").remove(0);
    assert!(letter.contains("From: Pinacle <pinacle@example.org>") && !letter.contains("spam"), "{letter}");
    assert_eq!(ann.sign_in("ann@example.org", PASSWORD).await.status, 401);

    let body = json!({ "token": secret(&first), "password": PASSWORD });
    let set = ann.send(Method::POST, "/accounts/password", Some(body.clone())).await;
    assert_eq!((set.status, &set.body["is_admin"]), (200, &json!(false)), "{set:?}");
    assert!(set.body["email_verified_at"].is_string(), "{set:?}");
    assert_eq!(ann.send(Method::POST, "/accounts/password", Some(body)).await.status, 410);
    assert_eq!(ann.sign_in("ann@example.org", PASSWORD).await.status, 201);

    // An admin's invitation goes by mail, and is not told to the admin.
    let made = admin.send(Method::POST, "/users", Some(json!({ "email": "bob@example.org", "is_admin": true }))).await;
    assert_eq!((made.status, &made.body["link"]), (201, &json!(null)), "{made:?}");
    let body = json!({ "token": secret(&link(&mail, "bob@example.org", &[]).await), "password": PASSWORD });
    let set = ann.send(Method::POST, "/accounts/password", Some(body)).await;
    assert_eq!((set.status, &set.body["is_admin"]), (200, &json!(true)), "{set:?}");
    // Whoever has an account invites, and learns nothing.
    let again = ann.send(Method::POST, "/users", Some(json!({ "email": "bob@example.org" }))).await;
    let new = ann.send(Method::POST, "/users", Some(json!({ "email": "carl@example.org" }))).await;
    assert_eq!((again.status, new.status), (202, 202), "{again:?} {new:?}");
    link(&mail, "carl@example.org", &[]).await;
    let greedy = ann.send(Method::POST, "/users", Some(json!({ "email": "d@example.org", "is_admin": true }))).await;
    assert_eq!(greedy.status, 403, "{greedy:?}");
    assert!(!stage.gateway.log_text().contains(secret(&first)));
}

#[tokio::test]
async fn a_lost_password_is_replaced_once_by_the_newest_link() {
    let mail = Mail::start().await;
    let stage = start(&mail, &[("PINACLE__GATEWAY__ADMIN_EMAILS", "Root@example.org, other@example.org")]).await;
    let first = stage.post("/accounts/first").await;
    assert_eq!(first.body["link"]["email"], "root@example.org", "{first:?}");
    let body = json!({ "token": secret(first.body["link"]["url"].as_str().unwrap()), "password": PASSWORD });
    let mut root = Browser::new(&stage);
    assert_eq!(root.send(Method::POST, "/accounts/password", Some(body)).await.status, 200);
    let mut root = Browser::signed_in(&stage, "root@example.org").await;

    let reset = async |email: &str| {
        Browser::new(&stage).send(Method::POST, "/accounts/reset", Some(json!({ "email": email }))).await.status
    };
    // Alike for who has an account and who has none.
    assert_eq!((reset("ROOT@example.org").await, reset("nobody@example.org").await), (202, 202));
    let older = link(&mail, "root@example.org", &[]).await;
    // Once a minute, so that nobody fills a mail box; then the link before is good no more.
    let mut database = PgConnection::connect(&stage.database).await.unwrap();
    sqlx::query("UPDATE account_token SET created_at = now() - interval '2 minutes'")
        .execute(&mut database)
        .await
        .unwrap();
    assert_eq!(reset("root@example.org").await, 202);
    let newer = link(&mail, "root@example.org", std::slice::from_ref(&older)).await;
    let set = async |link: &str, password: &str| {
        let body = json!({ "token": secret(link), "password": password });
        Browser::new(&stage).send(Method::POST, "/accounts/password", Some(body)).await.status
    };
    assert_eq!(set(&older, NEW).await, 410);
    // One that has run out is good no more either, even if it is the newest.
    let expiry = "UPDATE account_token SET expires_at = now() + interval '1 hour' * $1";
    sqlx::query(expiry).bind(-1.0).execute(&mut database).await.unwrap();
    assert_eq!(set(&newer, NEW).await, 410);
    sqlx::query(expiry).bind(1.0).execute(&mut database).await.unwrap();
    assert_eq!((set(&newer, NEW).await, set(&newer, NEW).await), (200, 410));

    assert_eq!(root.get("/account").await.status, 401, "sessions end with the password");
    assert_eq!(root.sign_in("root@example.org", PASSWORD).await.status, 401);
    assert_eq!(root.sign_in("root@example.org", NEW).await.status, 201);
    assert_eq!(root.get("/account").await.body["is_admin"], true);
    assert!(mail.to("nobody@example.org").is_empty());
    let log = stage.gateway.log_text();
    for hidden in [PASSWORD, NEW, secret(&older), secret(&newer)] {
        assert!(!log.contains(hidden), "the log has {hidden}");
    }
}

#[tokio::test]
async fn another_address_is_taken_by_a_link_that_went_there() {
    let mail = Mail::start().await;
    let stage = start(&mail, &[]).await;
    let mut admin = first_admin(&stage).await;
    let (mut other, mut elsewhere) = (Browser::signed_in(&stage, "admin@localhost").await, Browser::new(&stage));
    let body = |email: &str, password: &str| Some(json!({ "email": email, "password": password }));
    for (email, password, field) in [
        ("new@example.org", "wrong-wrong-wrong", "password"),
        ("Admin@LocalHost", PASSWORD, "email"),
        ("no address", PASSWORD, "email"),
    ] {
        let refused = admin.send(Method::POST, "/account/email", body(email, password)).await;
        assert_eq!((refused.status, &refused.body["errors"][0]["field"]), (422, &json!(field)), "{email}: {refused:?}");
    }
    let asked = admin.send(Method::POST, "/account/email", body("New@example.org", PASSWORD)).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let again = admin.send(Method::POST, "/account/email", body("more@example.org", PASSWORD)).await;
    assert_eq!((again.status, &again.body["code"]), (429, &json!("rate_limited")));
    let url = link_to("/confirm-email#", &mail, "new@example.org", &[]).await;
    let token = url.split_once('#').unwrap().1;
    assert_eq!(admin.get("/account").await.body["email"], "admin@localhost", "nothing changes before");

    // The link is good for that alone, for who has it, once.
    let set = json!({ "token": token, "password": NEW });
    assert_eq!(elsewhere.send(Method::POST, "/accounts/password", Some(set)).await.status, 410);
    let take = |token: &str| Some(json!({ "token": token }));
    assert_eq!(admin.send(Method::POST, "/accounts/email", take("forged")).await.status, 410);
    let taken = admin.send(Method::POST, "/accounts/email", take(token)).await;
    assert_eq!((taken.status, &taken.body["email"]), (200, &json!("new@example.org")), "{taken:?}");
    assert_eq!(admin.send(Method::POST, "/accounts/email", take(token)).await.status, 410);
    assert_eq!((admin.get("/account").await.status, other.get("/account").await.status), (200, 401));
    assert_eq!(elsewhere.sign_in("admin@localhost", PASSWORD).await.status, 401);
    assert_eq!(elsewhere.sign_in("new@example.org", PASSWORD).await.status, 201);
    eventually(SOON, "a letter to the address before", async || {
        let letters = mail.to("admin@localhost");
        let told = letters.iter().any(|letter| letter.contains("another address now") && !letter.contains("http"));
        if told { Ok(()) } else { Err(letters) }
    })
    .await;

    // An address that somebody has by the time the link is followed stays theirs.
    assert_eq!(admin.send(Method::POST, "/account/email", body("late@example.org", PASSWORD)).await.status, 202);
    let url = link_to("/confirm-email#", &mail, "late@example.org", &[]).await;
    assert_eq!(admin.send(Method::POST, "/users", Some(json!({ "email": "late@example.org" }))).await.status, 201);
    let late = admin.send(Method::POST, "/accounts/email", take(url.split_once('#').unwrap().1)).await;
    assert_eq!((late.status, &late.body["code"]), (409, &json!("email_taken")));
    assert_eq!(admin.get("/account").await.body["email"], "new@example.org");
    // One that has an account gets no letter about it; the answer is the same.
    let mut database = PgConnection::connect(&stage.database).await.unwrap();
    sqlx::query("DELETE FROM account_token WHERE purpose = 'email'").execute(&mut database).await.unwrap();
    assert_eq!(admin.send(Method::POST, "/account/email", body("late@example.org", PASSWORD)).await.status, 202);
    assert!(!stage.gateway.log_text().contains(token));
    let letters = mail.to("late@example.org");
    assert_eq!(letters.iter().filter(|letter| letter.contains("/confirm-email#")).count(), 1, "{letters:?}");
}
