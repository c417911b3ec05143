//! `room`: the control room in a browser, until SIGINT or SIGTERM; and its tokens.

mod token;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use home::Home;
use registry::{Database, Signals};
use storage::Place;
use terminal::Usage;
use tokio::net::TcpListener;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler room
  scheduler room --bind 127.0.0.1:8200
  scheduler room --try-here
  scheduler room --data data --profile my-lab.toml
  scheduler room --alerts alerts.toml
  scheduler room token create ann --role user
  scheduler room --bind 0.0.0.0:8100 --public --name lab.example")]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    served: Served,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make, list and revoke the tokens that people from elsewhere enter with
    #[command(after_help = "\
Examples:
  scheduler room token create ann --role user
  scheduler room token list
  scheduler room token revoke ann")]
    Token {
        #[command(subcommand)]
        command: token::Command,
    },
}

#[derive(clap::Args)]
struct Served {
    /// Address to listen on; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8100")]
    bind: String,
    /// Listen to other machines too, for whoever has a token; the pages are served without TLS, so put a proxy before
    /// them that has it
    #[arg(long)]
    public: bool,
    /// Demand a token of everybody, also of the user who runs this, on this machine
    #[arg(long)]
    tokens_only: bool,
    /// Let browsers send their session over TLS only: for a server behind a proxy that has it
    #[arg(long)]
    secure: bool,
    /// A host name that browsers may reach this server by, beside that of --bind; may be repeated
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// TOML file that says where alerts are sent to: webhooks, mail (docs/room.md)
    #[arg(long, value_name = "FILE")]
    alerts: Option<PathBuf>,
    /// A dataset, or a folder with datasets in it, to show beside those that runs read; may be repeated
    #[arg(long, value_name = "PLACE")]
    data: Vec<Place>,
    /// A table of results, or a folder with tables; may be repeated [default with --profile: configs/evaluation]
    #[arg(long, value_name = "PATH", requires = "profile")]
    tables: Vec<PathBuf>,
    /// Where this laboratory has what the tables name, such as configs/evaluation/profiles/paper.toml
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Folder of the programs that submit and make tables [default: that of this program]
    #[arg(long, value_name = "FOLDER", env = "PALETTE_BIN")]
    bin: Option<PathBuf>,
    /// Make the pictures that people try beside this server, not on a worker; so it is where no worker lives
    #[arg(long)]
    try_here: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Some(Command::Token { command }) => token::run(command),
        None => run_server(arguments.served),
    }
}

fn run_server(arguments: Served) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(serve(arguments));
    runtime.shutdown_background();
    served
}

async fn serve(arguments: Served) -> anyhow::Result<()> {
    let addresses = addresses(&arguments).await?;
    let tables = tables(arguments.tables.clone(), arguments.profile.clone())?;
    let programs = super::programs(arguments.bin.clone())?;
    let targets = match &arguments.alerts {
        Some(file) => room::Targets::read(file).map_err(|error| Usage::new(error.to_string()))?,
        None => room::Targets::default(),
    };
    let lease = registry::Lease::from_env()?;
    let database = Database::open().await?;
    let key = kept_key()?;
    look_at_tokens(&database, &arguments).await?;
    let failed = || format!("cannot listen on {}; name another with --bind", arguments.bind);
    let listener = TcpListener::bind(addresses.as_slice()).await.with_context(failed)?;
    let address = listener.local_addr().with_context(failed)?;
    let asked = Signals::hear()?.first(|| {});
    terminal::print(&format!("control room at http://{address}"))?;
    let options = room::Options {
        database,
        programs,
        names: arguments.names,
        key,
        local: !arguments.tokens_only,
        secure: arguments.secure,
        targets,
        lease,
        try_here: arguments.try_here,
        tables,
        data: arguments.data,
    };
    room::serve(options, listener, asked).await.with_context(failed)
}

/// The files of the tables. Of a folder they are those that end with `.toml`.
fn tables(named: Vec<PathBuf>, profile: Option<PathBuf>) -> anyhow::Result<room::Tables> {
    let Some(profile) = profile else { return Ok(room::Tables::default()) };
    let readable = |path: &Path| match path.is_file() {
        true => Ok(()),
        false => Err(Usage::new(format!("there is no file {}", path.display()))),
    };
    readable(&profile)?;
    let named = if named.is_empty() { vec![PathBuf::from("configs/evaluation")] } else { named };
    let mut files = Vec::new();
    for path in named {
        let Ok(entries) = std::fs::read_dir(&path) else {
            readable(&path)?;
            files.push(path);
            continue;
        };
        let entries = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let mut own: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
        own.sort();
        files.append(&mut own);
    }
    if files.is_empty() {
        return Err(Usage::new("no table is there; name one with --tables").into());
    }
    Ok(room::Tables { files, profile: Some(profile) })
}

/// The key of sessions, which servers of this home share: pages that are open go on when the server is started again.
fn kept_key() -> anyhow::Result<room::Key> {
    let home = Home::from_env()?;
    room::Key::kept(&home)
        .with_context(|| format!("{}: the key of sessions", home.path().join("room/key").display()))
}

/// Where only tokens let in, there must be one; and what is submitted with them shall be of their names.
async fn look_at_tokens(database: &Database, arguments: &Served) -> anyhow::Result<()> {
    let tokens = database.valid_room_tokens().await?;
    if tokens.is_empty() && (arguments.public || arguments.tokens_only) {
        return Err(Usage::new(
            "nobody could enter, for there is no token: make one with `scheduler room token create NAME --role admin`",
        )
        .into());
    }
    if !tokens.is_empty() && !database.may_name_owners().await? {
        tracing::warn!(
            "what is submitted with tokens belongs to the login of DATABASE_URL: an administrator grants it \
             palette_proxy (migrations/roles.sql), so that it belongs to the names of the tokens"
        );
    }
    Ok(())
}

/// Where to listen, all of it on this machine unless `--public` is given.
async fn addresses(arguments: &Served) -> anyhow::Result<Vec<SocketAddr>> {
    let bind = &arguments.bind;
    let found = tokio::net::lookup_host(bind).await;
    let addresses: Vec<SocketAddr> = found
        .map_err(|error| Usage::new(format!("--bind {bind} is no HOST:PORT: {error}")))?
        .collect();
    if !arguments.public && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(Usage::new(format!(
            "--bind {bind} is reached from other machines, and the pages are served without TLS: listen on \
             127.0.0.1 behind a proxy that has it, or say --public"
        ))
        .into());
    }
    Ok(addresses)
}
