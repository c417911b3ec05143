//! Mail, by SMTP. A message carries the same `Message-ID` each time that it is sent.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::message::{Message, line};
use super::targets::{Secret, is_loopback};

/// Whom to write to, and by which server.
#[derive(Clone)]
pub(super) struct Mail {
    from: Mailbox,
    to: Vec<Mailbox>,
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

/// Without the password.
impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail")
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

impl Mail {
    pub fn new(
        server: &str,
        port: Option<u16>,
        tls: &str,
        from: &str,
        to: &[String],
        credentials: Option<(String, Secret)>,
    ) -> Result<Self, String> {
        let mailbox = |text: &str| {
            text.parse::<Mailbox>()
                .map_err(|_| format!("`{}` is no address of mail", line(text, 100)))
        };
        let parameters =
            || TlsParameters::new(server.to_owned()).map_err(|error| line(&error.to_string(), 200));
        let (tls, usual) = match tls {
            "starttls" => (Tls::Required(parameters()?), 587),
            "tls" => (Tls::Wrapper(parameters()?), 465),
            "none" if credentials.is_some() && !is_loopback(server) => {
                return Err("a password is not sent without TLS to another machine".into());
            }
            "none" => (Tls::None, 25),
            _ => return Err("tls is one of starttls, tls, none".into()),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server)
            .port(port.unwrap_or(usual))
            .tls(tls)
            .timeout(Some(Duration::from_secs(15)));
        if let Some((user, password)) = credentials {
            builder = builder.credentials(Credentials::new(user, password.0));
        }
        Ok(Self {
            from: mailbox(from)?,
            to: to.iter().map(|to| mailbox(to)).collect::<Result<_, _>>()?,
            transport: builder.build(),
        })
    }

    pub async fn send(&self, message: &Message) -> Result<(), String> {
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(format!("[palette] {}", message.title))
            .message_id(Some(format!("<{}@palette.invalid>", message.id)))
            .date(std::time::SystemTime::from(message.at))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        let mail = builder
            .body(message.text())
            .map_err(|error| format!("the mail cannot be written: {error}"))?;
        match self.transport.send(mail).await {
            Ok(_) => Ok(()),
            // What a server answers may quote what it was sent.
            Err(error) => Err(match error.status() {
                Some(code) => format!("the mail server answers {code}"),
                None => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    let text = cause.unwrap_or_else(|| error.to_string());
                    line(&secrets::text(&format!("the mail server cannot be used: {text}")), 300)
                }
            }),
        }
    }
}
