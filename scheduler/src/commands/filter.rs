//! Which rows `jobs` and `runs` list: the options that both have.

use registry::{Database, JobState, Result, Since};

#[derive(clap::Args)]
pub struct Filter {
    /// Only in these states: queued, running, paused, succeeded, failed, cancelled; a list with
    /// commas, or repeated
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    pub states: Vec<JobState>,
    /// Only of this owner
    #[arg(long, value_name = "NAME", conflicts_with = "mine")]
    owner: Option<String>,
    /// Only of the current user; on a server with roles, of the login
    #[arg(long)]
    mine: bool,
    /// Only with this tag; repeated, with all of them
    #[arg(long = "tag", value_name = "WORD")]
    pub tags: Vec<String>,
    /// Only of this name; * is any text
    #[arg(long, value_name = "PATTERN")]
    pub name: Option<String>,
    /// Only of this experiment, or about a run of it
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// Only since then: 90m, 2h, 3d, 1w ago, or a day such as 2026-11-20, in local time
    /// unless an offset says otherwise (2026-11-20T18:00Z)
    #[arg(long, value_name = "WHEN")]
    pub since: Option<Since>,
    /// Only of this sweep (short id, the beginning of one, or name)
    #[arg(long)]
    sweep: Option<String>,
    /// List at most N
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with = "all")]
    limit: u32,
    /// As many as there are, archived ones too
    #[arg(long, conflicts_with = "archived")]
    all: bool,
    /// Only archived ones (`scheduler archive`), which are left out otherwise
    #[arg(long)]
    archived: bool,
}

impl Filter {
    /// These options and the kinds, as the registry takes them.
    pub async fn of<K: Clone>(&self, db: &Database, kinds: &[K]) -> Result<registry::Filter<K>> {
        let sweep = match &self.sweep {
            Some(name) => Some(db.find_sweep(name).await?.id),
            None => None,
        };
        let owner = match self.mine {
            true => Some(db.myself().await?),
            false => self.owner.clone(),
        };
        Ok(registry::Filter {
            states: self.states.clone(),
            kinds: kinds.to_vec(),
            owner,
            tags: self.tags.clone(),
            name: self.name.clone(),
            experiment: self.experiment.clone(),
            since: self.since,
            sweep,
            archived: (!self.all).then_some(self.archived),
            limit: (!self.all).then_some(self.limit.into()),
        })
    }

    /// That nothing is listed; `any`: the command's own options leave out nothing either.
    pub fn nothing(&self, what: &str, any: bool) -> String {
        let any = any
            && self.states.is_empty()
            && self.owner.is_none()
            && !self.mine
            && self.tags.is_empty()
            && self.name.is_none()
            && self.experiment.is_none()
            && self.since.is_none()
            && !self.archived
            && self.sweep.is_none();
        if any {
            format!("no {what} (`trainer submit` queues one)")
        } else {
            format!("no {what} that fit (without options all are listed but archived ones)")
        }
    }

    /// To a person at a terminal: that there may be more than what is listed.
    pub fn more(&self, listed: usize) -> String {
        let full =
            !self.all && listed > 0 && usize::try_from(self.limit).is_ok_and(|n| n == listed);
        if full && terminal::width().is_some() {
            format!("\nthe newest {listed}; --limit N or --all lists more")
        } else {
            String::new()
        }
    }
}
