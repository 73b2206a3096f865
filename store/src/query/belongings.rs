//! What an owner has, and keeps it from being ended.

use sqlx::PgConnection;

/// What an owner has: how many of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Belongings {
    /// Pods.
    pub pods: i64,
    /// Hosts.
    pub hosts: i64,
    /// Secrets.
    pub secrets: i64,
    /// Tokens by which hosts can still join.
    pub tokens: i64,
}

impl Belongings {
    /// What an owner has whose row the transaction holds; `live` is what it is known to have besides.
    pub(super) async fn find(connection: &mut PgConnection, owner: &str, live: Self) -> Result<Self, sqlx::Error> {
        const PODS: &str = "SELECT count(*) FROM pod_claim WHERE owner = $1";
        const HOSTS: &str =
            "SELECT count(DISTINCT host_id) FROM host_key WHERE owner = $1 AND state IN ('active', 'disabled')";
        const SECRETS: &str = "SELECT count(*) FROM secret WHERE owner = $1";
        const TOKENS: &str = "SELECT count(*) FROM host_enrolment \
                              WHERE owner = $1 AND revoked_at IS NULL AND expires_at > now() AND used < uses";
        let mut count = async |sql| sqlx::query_scalar::<_, i64>(sql).bind(owner).fetch_one(&mut *connection).await;
        Ok(Self {
            pods: count(PODS).await?.max(live.pods),
            hosts: count(HOSTS).await?.max(live.hosts),
            secrets: count(SECRETS).await?,
            tokens: count(TOKENS).await?,
        })
    }
}
