//! The file of targets: where alerts go. Secrets are not in it: it names files and variables of the environment that hold
//! them. They are read when the server starts, and are never shown, logged or stored.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::mail::Mail;

/// Bytes of the file, and of a file with a secret.
const LONGEST: u64 = 64 << 10;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

/// A text that is never shown.
#[derive(Clone)]
pub(super) struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a webhook's message is written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// An object of our own.
    Json,
    /// As ntfy takes it.
    Ntfy,
    /// As Slack takes it.
    Slack,
    /// As Mattermost takes it.
    Mattermost,
}

#[derive(Clone, Debug)]
pub(super) enum Way {
    Web { form: Form, url: Secret },
    Mail(Box<Mail>),
}

/// Where messages go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub name: String,
    pub way: Way,
    /// What people may know of it.
    pub shown: String,
}

/// The targets of this server.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    all: Vec<Target>,
    address: Option<String>,
    first_retry: Option<Duration>,
    give_up: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Where people reach this server, for links in messages.
    address: Option<String>,
    /// Seconds before the second try.
    first_retry_seconds: Option<f64>,
    /// Hours after which a message is given up.
    give_up_hours: Option<f64>,
    /// Whether webhooks on other machines may be without TLS.
    #[serde(default)]
    plain_http: bool,
    #[serde(default)]
    target: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    kind: String,
    url_file: Option<PathBuf>,
    url_env: Option<String>,
    server: Option<String>,
    port: Option<u16>,
    tls: Option<String>,
    from: Option<String>,
    #[serde(default)]
    to: Vec<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
}

impl Targets {
    /// Reads the file, and the secrets that it names.
    ///
    /// # Errors
    /// Where it or a secret cannot be read, or says something that cannot be.
    pub fn read(path: &Path) -> Result<Self, Unfit> {
        let text = short(path)?;
        // The parser quotes the line that it does not understand: nobody should write a secret there, and it is not shown.
        let file: File = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let message = error.message();
            // Names of fields are quoted, values never.
            let named =
                message.starts_with("unknown field") || message.starts_with("missing field");
            let words =
                if named { message } else { "this is no such file of targets, see docs/room.md" };
            Unfit(format!("{}, line {line}: {words}", path.display()))
        })?;
        let within = |error: Unfit| Unfit(format!("{}: {error}", path.display()));
        Self::of(file, path.parent().unwrap_or(Path::new("."))).map_err(within)
    }

    fn of(file: File, folder: &Path) -> Result<Self, Unfit> {
        let seconds = |value: Option<f64>, unit: f64, name: &str| match value {
            None => Ok(None),
            Some(value) if value > 0.0 && value * unit <= 30.0 * 86_400.0 => {
                Ok(Some(Duration::from_secs_f64(value * unit)))
            }
            Some(_) => Err(Unfit(format!("{name} is out of range: more than 0, 30 days at most"))),
        };
        if file.target.len() > 50 {
            return Err(Unfit("more than 50 targets".into()));
        }
        let address = match file.address {
            Some(address) => {
                let url = reqwest::Url::parse(&address);
                let web = url.is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
                if !web {
                    return Err(Unfit("address is no address of the web (https://…)".into()));
                }
                Some(address.trim_end_matches('/').to_owned())
            }
            None => None,
        };
        let mut all: Vec<Target> = Vec::new();
        for entry in file.target {
            let name = entry.name.clone();
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || name.len() > 64 || !name.chars().all(known) {
                return Err(Unfit(
                    "the name of a target is 1 to 64 letters, digits, `-`, `_` and `.`".into(),
                ));
            }
            if all.iter().any(|known| known.name == name) {
                return Err(Unfit(format!("two targets are called {name}")));
            }
            let target = entry.target(folder, file.plain_http);
            all.push(target.map_err(|error| Unfit(format!("target {name}: {error}")))?);
        }
        Ok(Self {
            all,
            address,
            first_retry: seconds(file.first_retry_seconds, 1.0, "first_retry_seconds")?,
            give_up: seconds(file.give_up_hours, 3600.0, "give_up_hours")?,
        })
    }

    pub(super) fn find(&self, name: &str) -> Option<&Target> {
        self.all.iter().find(|target| target.name == name)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.all.iter().map(|target| target.name.clone()).collect()
    }

    /// Names of targets, with what may be shown of each: how they are reached, not where.
    pub(crate) fn shown(&self) -> Vec<(&str, &str)> {
        self.all.iter().map(|target| (target.name.as_str(), target.shown.as_str())).collect()
    }

    /// Where links in messages lead.
    pub(super) fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    pub(super) fn first_retry(&self) -> Duration {
        self.first_retry.unwrap_or(Duration::from_secs(10))
    }

    /// How long a message is tried.
    pub(crate) fn give_up(&self) -> Duration {
        self.give_up.unwrap_or(Duration::from_secs(24 * 3600))
    }
}

impl Entry {
    fn target(self, folder: &Path, plain_http: bool) -> Result<Target, Unfit> {
        if self.kind == "mail" {
            return self.mail(folder);
        }
        let form = match self.kind.as_str() {
            "json" => Form::Json,
            "ntfy" => Form::Ntfy,
            "slack" => Form::Slack,
            "mattermost" => Form::Mattermost,
            _ => {
                return Err(Unfit("kind is one of json, ntfy, slack, mattermost, mail".into()));
            }
        };
        let of_mail = self.server.is_some()
            || self.port.is_some()
            || self.tls.is_some()
            || self.from.is_some()
            || !self.to.is_empty()
            || self.user.is_some()
            || self.password_file.is_some()
            || self.password_env.is_some();
        if of_mail {
            return Err(Unfit("a webhook has name, kind, and url_file or url_env".into()));
        }
        let (url, from) = secret("url", self.url_file, self.url_env, folder)?
            .ok_or_else(|| Unfit("name the address by url_file or url_env".into()))?;
        let parsed = reqwest::Url::parse(&url.0)
            .map_err(|_| Unfit(format!("{from} holds no address of the web")))?;
        let loopback = parsed.host_str().is_some_and(is_loopback);
        match parsed.scheme() {
            "https" => {}
            "http" if loopback || plain_http => {}
            "http" => {
                return Err(Unfit(format!(
                    "{from} holds an address without TLS on another machine: https://, or plain_http = true"
                )));
            }
            _ => return Err(Unfit(format!("{from} holds no address of the web"))),
        }
        if form == Form::Ntfy && super::webhook::topic(&parsed).is_none() {
            return Err(Unfit(format!("{from}: the address of ntfy ends with a topic")));
        }
        // Where a secret is on this machine is nobody's business who looks at a page.
        let source = if from.starts_with("the file") { "a file" } else { &from };
        let shown = format!("{} webhook, address from {source}", self.kind);
        Ok(Target { name: self.name, way: Way::Web { form, url }, shown })
    }

    fn mail(self, folder: &Path) -> Result<Target, Unfit> {
        if self.url_file.is_some() || self.url_env.is_some() {
            return Err(Unfit("mail has a server, not a url".into()));
        }
        let password = secret("password", self.password_file, self.password_env, folder)?;
        let credentials = match (self.user, password) {
            (Some(user), Some((password, _))) => Some((user, password)),
            (None, None) => None,
            _ => return Err(Unfit("user and password come together, or neither".into())),
        };
        let server = self.server.ok_or_else(|| Unfit("name the server".into()))?;
        let from = self.from.ok_or_else(|| Unfit("say from whom (from)".into()))?;
        if self.to.is_empty() || self.to.len() > 20 {
            return Err(Unfit("say to whom (to): 1 to 20 addresses".into()));
        }
        let tls = self.tls.as_deref().unwrap_or("starttls");
        let shown = format!("mail to {} by {server}", self.to.join(", "));
        let mail =
            Mail::new(&server, self.port, tls, &from, &self.to, credentials).map_err(Unfit)?;
        Ok(Target { name: self.name, way: Way::Mail(Box::new(mail)), shown })
    }
}

/// The first line of a file, or a variable; with what says where it was.
fn secret(
    what: &str,
    file: Option<PathBuf>,
    variable: Option<String>,
    folder: &Path,
) -> Result<Option<(Secret, String)>, Unfit> {
    let (text, from) = match (file, variable) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(Unfit(format!("{what}_file or {what}_env, not both")));
        }
        (Some(file), None) => {
            let path = folder.join(file);
            (short(&path)?, format!("the file {}", path.display()))
        }
        (None, Some(variable)) => {
            let text = std::env::var(&variable)
                .map_err(|_| Unfit(format!("the variable {variable} is not set")))?;
            (text, format!("the variable {variable}"))
        }
    };
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(Unfit(format!("{from} is to hold one line")));
    }
    Ok(Some((Secret(text.to_owned()), from)))
}

/// A file that is no longer than it may be.
fn short(path: &Path) -> Result<String, Unfit> {
    use std::io::Read;
    let failed = |error: std::io::Error| Unfit(format!("{}: {error}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(failed)?;
    match text.len() as u64 > LONGEST {
        true => Err(Unfit(format!("{} is longer than {LONGEST} bytes", path.display()))),
        false => Ok(text),
    }
}

/// Whether a host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn read(text: &str, secrets: &[(&str, &str)]) -> Result<Targets, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in secrets {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let path = folder.path().join("alerts.toml");
        std::fs::write(&path, text).unwrap();
        Targets::read(&path).map_err(|error| error.to_string())
    }

    const HOOK: &str = "[[target]]\nname = \"team\"\nkind = \"slack\"\nurl_file = \"hook\"\n";

    #[test]
    fn secrets_are_read_from_files_and_never_shown() {
        let secret = "https://hooks.example/T0/SECRET";
        let targets = read(HOOK, &[("hook", &format!("{secret}\n"))]).unwrap();
        assert_eq!(targets.names(), ["team"]);
        assert!(!format!("{targets:?} {:?}", targets.shown()).contains("SECRET"));
        let mail = "[[target]]\nname = \"m\"\nkind = \"mail\"\nserver = \"smtp.example\"\n\
                    from = \"a@example.org\"\nto = [\"b@example.org\"]\nuser = \"u\"\n\
                    password_file = \"word\"\n";
        let targets = read(mail, &[("word", "SECRET")]).unwrap();
        assert!(!format!("{targets:?} {:?}", targets.shown()).contains("SECRET"));
    }

    #[test]
    fn what_cannot_be_is_refused_without_the_secret() {
        let hooks = |url: &str| read(HOOK, &[("hook", url)]).unwrap_err();
        assert!(hooks("SECRET").contains("holds no address of the web"));
        assert!(hooks("http://elsewhere.example/SECRET").contains("without TLS"));
        assert!(hooks("file:///SECRET").contains("holds no address"));
        assert!(hooks("").contains("one line"));
        assert!(hooks("https://a.example/x\nSECRET").contains("one line"));
        for (text, words) in [
            ("[[target]]\nname = \"a b\"\nkind = \"json\"\n", "the name of a target"),
            ("[[target]]\nname = \"a\"\nkind = \"pigeon\"\n", "kind is one of"),
            ("[[target]]\nname = \"a\"\nkind = \"json\"\n", "url_file or url_env"),
            ("[[target]]\nname = \"a\"\nkind = \"json\"\nurl = \"https://SECRET\"\n", "line 4"),
            ("give_up_hours = -1\n", "out of range"),
            ("give_up_hours = \"SECRET\"\n", "line 1"),
            ("address = \"nowhere\"\n", "no address of the web"),
        ] {
            let error = read(text, &[]).unwrap_err();
            assert!(error.contains(words) && !error.contains("SECRET"), "{error}");
        }
        let plain = "[[target]]\nname = \"m\"\nkind = \"mail\"\nserver = \"smtp.example\"\ntls = \"none\"\n\
                     from = \"a@example.org\"\nto = [\"b@example.org\"]\nuser = \"u\"\npassword_file = \"word\"\n";
        let error = read(plain, &[("word", "SECRET")]).unwrap_err();
        assert!(error.contains("TLS") && !error.contains("SECRET"), "{error}");
    }
}
