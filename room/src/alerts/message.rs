//! What is told, as each receiver writes it. Names of runs, reasons and lines of logs are strangers' text: they carry no
//! line into a header, mention nobody, and make no links.

use registry::{Delivery, Uuid};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::targets::Form;

/// A message, cleaned: no control characters, of limited length.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The same each time that it is sent, so that receivers may drop a second copy.
    pub id: String,
    pub kind: String,
    pub title: String,
    pub body: String,
    pub job: Option<Uuid>,
    pub at: OffsetDateTime,
    /// Where more is to be seen.
    pub link: Option<String>,
}

impl Message {
    pub fn of(delivery: &Delivery, address: Option<&str>) -> Self {
        let link = address.map(|address| match delivery.job {
            Some(job) => {
                let folder = if delivery.trains { "runs" } else { "jobs" };
                format!("{address}/{folder}/{}", registry::short(&job))
            }
            None => format!("{address}/alerts"),
        });
        Self {
            id: format!("palette-alert-{}-{}", delivery.event, delivery.at.unix_timestamp()),
            kind: line(&delivery.kind, 40),
            title: line(&delivery.title, 200),
            body: lines(&delivery.body, 2500),
            job: delivery.job,
            at: delivery.at,
            link,
        }
    }

    /// The text below the title, with the link.
    pub fn text(&self) -> String {
        match &self.link {
            Some(link) => format!("{}\n{link}", self.body),
            None => self.body.clone(),
        }
    }

    /// What a webhook is sent; `topic` is ntfy's.
    pub fn json(&self, form: Form, topic: &str) -> Value {
        match form {
            Form::Json => json!({
                "version": 1,
                "id": self.id,
                "kind": self.kind,
                "title": self.title,
                "text": self.body,
                "job": self.job.map(|id| id.to_string()),
                "at": self.at.format(&Rfc3339).unwrap_or_default(),
                "link": self.link,
            }),
            Form::Ntfy => {
                let mut message = json!({
                    "topic": topic,
                    "title": self.title,
                    "message": self.body,
                    "tags": [self.tag()],
                    "priority": if self.kind == "test" { 3 } else { 4 },
                });
                if let Some(link) = &self.link {
                    message["click"] = json!(link);
                }
                message
            }
            // Plain text mentions nobody; the fallback, which notifications show, is escaped.
            Form::Slack => {
                let mut blocks = vec![
                    json!({"type": "header", "text": plain(&self.title, 150)}),
                    json!({"type": "section", "text": plain(&self.body, 3000)}),
                ];
                if let Some(link) = &self.link {
                    blocks.push(json!({"type": "section", "text": plain(link, 3000)}));
                }
                json!({
                    "text": slack(&self.title),
                    "blocks": blocks,
                    "unfurl_links": false,
                    "unfurl_media": false,
                })
            }
            Form::Mattermost => {
                let mut text = format!("**{}**\n{}", markdown(&self.title), markdown(&self.body));
                if let Some(link) = &self.link {
                    text = format!("{text}\n<{link}>");
                }
                json!({ "text": text })
            }
        }
    }

    fn tag(&self) -> &'static str {
        match self.kind.as_str() {
            "test" => "white_check_mark",
            "disk" | "nobody" | "nothing" => "warning",
            _ => "rotating_light",
        }
    }
}

fn plain(text: &str, most: usize) -> Value {
    let text: String = text.chars().take(most).collect();
    json!({"type": "plain_text", "text": text, "emoji": false})
}

/// What Slack takes for no mention and no link.
fn slack(text: &str) -> String {
    apart(&text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
}

/// What Mattermost takes for no mark, no link and no mention.
fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        if character.is_ascii_punctuation() && !matches!(character, '.' | ',' | '%' | '\'' | '@') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    // An address is made a link even so; it is no more once it is broken.
    apart(&escaped.replace("www.", "www\u{200b}."))
}

/// `@` without a word behind it mentions nobody.
fn apart(text: &str) -> String {
    text.replace('@', "@\u{200b}")
}

/// One line of at most this number of characters.
pub(super) fn line(text: &str, most: usize) -> String {
    lines(&text.replace(['\n', '\r'], " "), most)
}

/// Without control characters and marks that turn the direction of text, but for the ends of lines.
fn lines(text: &str, most: usize) -> String {
    let turns = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let clean = text.chars().map(|c| match c {
        '\n' => '\n',
        c if c.is_control() || turns(c) => ' ',
        c => c,
    });
    let mut cut: String = clean.take(most + 1).collect();
    if cut.chars().count() > most {
        cut.pop();
        cut.pop();
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "x\r\nBcc: all@example.org\n\n<!channel> <@U1> @here [a](http://evil.example) `b` \u{202e}gpj";

    fn hostile() -> Message {
        let delivery = Delivery {
            event: 7,
            target: "t".into(),
            tries: 1,
            kind: "failed".into(),
            title: format!("failed: {HOSTILE}"),
            body: format!("{HOSTILE} & so on {}", "y".repeat(10_000)),
            job: Some(Uuid::nil()),
            trains: true,
            at: OffsetDateTime::UNIX_EPOCH,
        };
        Message::of(&delivery, Some("https://lab.example"))
    }

    #[test]
    fn a_hostile_name_mentions_nobody_and_opens_no_line() {
        let message = hostile();
        assert!(!message.title.contains(['\n', '\r', '\u{202e}']), "{}", message.title);
        assert!(message.body.chars().count() <= 2500);
        let slack = message.json(Form::Slack, "");
        let text = slack["text"].as_str().unwrap_or_default();
        assert!(text.contains("&lt;!channel&gt;") && !text.contains('<'), "{text}");
        assert!(!text.contains("@here"), "{text}");
        for block in slack["blocks"].as_array().into_iter().flatten() {
            assert_eq!(block["text"]["type"], "plain_text");
        }
        let header = slack["blocks"][0]["text"]["text"].as_str().unwrap_or_default();
        assert!(header.chars().count() <= 150);
        let mattermost = message.json(Form::Mattermost, "");
        let text = mattermost["text"].as_str().unwrap_or_default();
        assert!(!text.contains("@here") && !text.contains("@U1"), "{text}");
        assert!(text.contains("\\[a\\]\\(http\\:\\/\\/evil") && text.contains("\\`b\\`"), "{text}");
    }

    #[test]
    fn what_is_sent_to_each() {
        let message = hostile();
        let json = message.json(Form::Json, "");
        assert_eq!(json["version"], 1);
        assert_eq!(json["id"], "palette-alert-7-0");
        assert_eq!(json["at"], "1970-01-01T00:00:00Z");
        assert_eq!(json["link"], "https://lab.example/runs/00000000");
        let ntfy = message.json(Form::Ntfy, "lab");
        assert_eq!(ntfy["topic"], "lab");
        assert_eq!(ntfy["priority"], 4);
    }
}
