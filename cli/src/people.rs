//! Who is meant by an id: people by their addresses, teams by their names.

use std::collections::HashMap;

use serde::Deserialize;

use crate::api::{Api, Whole};

/// Those that whoever asks may know.
#[derive(Default)]
pub(crate) struct People(HashMap<String, String>);

#[derive(Deserialize)]
struct Person {
    user_id: String,
    email: String,
}

#[derive(Deserialize)]
struct Team {
    team_id: String,
    name: String,
}

impl People {
    /// Asks for them. Where that is refused an id is shown as it is: nothing depends on names.
    pub async fn known(api: &Api) -> Self {
        let (people, teams) = tokio::join!(
            api.all::<Person>("/users", Vec::new(), usize::MAX),
            api.all::<Team>("/teams", Vec::new(), usize::MAX)
        );
        let people = match people {
            Ok(people) => people,
            // Others than admins know themselves.
            Err(_) => api.get("/account", &[]).await.and_then(Whole::read).into_iter().collect(),
        };
        let people = people.into_iter().map(|person| (person.view.user_id, person.view.email));
        let teams = teams.unwrap_or_default().into_iter().map(|team| (team.view.team_id, team.view.name));
        Self(people.chain(teams).collect())
    }

    /// What people call whoever has this id.
    pub fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.0.get(id).map_or(id, String::as_str)
    }
}
