//! Who works here. What the environment says goes by the rule of `--owner`; what breaks it is passed over, for
//! nobody has typed it, and it could neither be listed in one line nor be asked for again.

use nix::unistd::{Uid, User};
use storage::names;

use crate::{Database, Result};

/// The user of this process: `$USER`, else the login name of its uid, else `uid-N`; the first that may be an owner.
pub fn current_user() -> String {
    let uid = nix::unistd::getuid();
    let login = || User::from_uid(uid).ok().flatten().map(|user| user.name);
    named(std::env::var("USER").ok(), login, uid)
}

impl Database {
    /// Who owns what this process submits: [`current_user`] where the role may name owners (the owner of the tables,
    /// `palette_proxy`), else the role itself.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn myself(&self) -> Result<String> {
        let name = sqlx::query_scalar!(
            r#"select case when names_owners() then $1::text else current_user::text end as "name!""#,
            current_user(),
        );
        Ok(name.fetch_one(&self.pool).await?)
    }
}

fn named(variable: Option<String>, login: impl FnOnce() -> Option<String>, uid: Uid) -> String {
    let fits = |name: &String| names::word(name).is_ok();
    variable.filter(fits).or_else(|| login().filter(fits)).unwrap_or_else(|| format!("uid-{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_always_one_that_can_be_asked_for() {
        let uid = Uid::from_raw(1234);
        let long = "x".repeat(300);
        let wrong = [None, Some(""), Some("a,b"), Some("a b\u{1b}[2J"), Some(&*long)];
        let text = |name: Option<&str>| name.map(str::to_owned);
        for variable in wrong {
            assert_eq!(named(text(variable), || text(Some("ann")), uid), "ann", "{variable:?}");
            for login in wrong {
                assert_eq!(named(text(variable), || text(login), uid), "uid-1234");
            }
        }
        assert_eq!(named(text(Some("bob@site")), || text(Some("ann")), uid), "bob@site");
    }
}
