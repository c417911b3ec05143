//! `gc`: reclaims space by a policy.

use std::path::PathBuf;

use anyhow::Context;
use home::Home;
use registry::Blocking;
use scheduler::gc::{self, Fate, Item, Plan, Policy, Total, totals};
use serde::Serialize;
use terminal::Usage;

/// Reclaims the space of what is not needed any more. Nothing goes that is not named: checkpoints,
/// failed-runs, logs, metrics, cache, pictures, orphans, tries. Removals that a killed process has begun are
/// always finished. Runs, shown metrics, evaluations and the last lines of logs stay for good.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler gc --checkpoints keep-last=2 --failed-runs --older-than 30d --dry-run
  scheduler gc --pictures keep=8 --older-than 30d
  scheduler gc --policy gc.toml")]
pub struct Arguments {
    #[command(flatten)]
    policy: Policy,
    /// Read the policy from a TOML file with the names of these options, which add to it
    #[arg(long = "policy", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What was reclaimed, or with `dry_run` would be.
#[derive(Serialize)]
struct Reclaimed<'a> {
    policy: &'a Policy,
    dry_run: bool,
    items: Vec<&'a Item>,
    totals: Vec<Total>,
    left: Vec<Remark<'a>>,
    failed: Vec<Remark<'a>>,
    notes: &'a [String],
}

/// Something that is still there, and why.
#[derive(Serialize)]
struct Remark<'a> {
    what: &'a str,
    place: Option<&'a str>,
    why: String,
}

pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let policy = policy(arguments.policy, arguments.file)?;
    let db = Blocking::open()?;
    let home = Home::from_env()?;
    let _alone = match arguments.dry_run {
        true => None,
        false => Some(db.wait(gc::alone(&db))?),
    };
    let plan = db.wait(gc::plan(&db, &home, &policy))?;
    if !arguments.json {
        print_plan(&policy, &plan)?;
    }
    let mut report = Reclaimed {
        policy: &policy,
        dry_run: arguments.dry_run,
        items: plan.items.iter().collect(),
        totals: Vec::new(),
        left: Vec::new(),
        failed: Vec::new(),
        notes: &plan.notes,
    };
    if !arguments.dry_run && !plan.items.is_empty() {
        carry_out(&db, &plan, &mut report)?;
    }
    report.totals = totals(report.items.iter().copied());
    if arguments.json {
        terminal::print_json(&report)?;
    } else {
        print_end(&report)?;
    }
    match report.failed.len() {
        0 => Ok(()),
        failed => anyhow::bail!(
            "{failed} of {} could not be removed; what is marked stays marked, and the next \
             `scheduler gc` tries again",
            plan.items.len()
        ),
    }
}

/// What the options and the file say together; wrong use where that makes no sense.
fn policy(options: Policy, file: Option<PathBuf>) -> anyhow::Result<Policy> {
    let file = file
        .map(|file| Policy::read(&file).with_context(|| Usage::new("--policy cannot be used")))
        .transpose()?;
    Ok(options.or(file.unwrap_or_default()).checked()?)
}

fn carry_out<'a>(db: &Blocking, plan: &'a Plan, report: &mut Reclaimed<'a>) -> anyhow::Result<()> {
    let total: u64 = plan.items.iter().map(|item| item.bytes).sum();
    let progress = terminal::Progress::bytes("reclaim", Some(total));
    let mut fates = Vec::new();
    let done = db.wait(gc::run(db, plan, |item, fate| {
        progress.message(item.what.clone());
        progress.inc(item.bytes);
        fates.push(fate.clone());
    }));
    progress.finish();
    done?;
    report.items.clear();
    for (item, fate) in plan.items.iter().zip(fates) {
        let remark = |why| Remark { what: &item.what, place: item.place.as_deref(), why };
        match fate {
            Fate::Gone => report.items.push(item),
            Fate::Left(why) => report.left.push(remark(why)),
            Fate::Failed(why) => report.failed.push(remark(why)),
        }
    }
    Ok(())
}

fn print_plan(policy: &Policy, plan: &Plan) -> anyhow::Result<()> {
    terminal::print(&format!("policy: {policy}"))?;
    for note in &plan.notes {
        terminal::print(&format!("note: {note}"))?;
    }
    if plan.items.is_empty() {
        return Ok(());
    }
    let mut table = terminal::Table::new(&["class", "what", "size", "why", "where"]);
    for item in &plan.items {
        let what = match item.count {
            1 => item.what.clone(),
            count => format!("{} ({count})", item.what),
        };
        table.row([
            item.class.name(),
            &what,
            &terminal::bytes(item.bytes),
            &item.why,
            item.place.as_deref().unwrap_or_default(),
        ]);
    }
    table.print()
}

fn print_end(report: &Reclaimed) -> anyhow::Result<()> {
    for (label, remarks) in [("left", &report.left), ("not removed", &report.failed)] {
        for Remark { what, place, why } in remarks {
            let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
            terminal::print(&format!("{label}: {what}{place}: {why}"))?;
        }
    }
    for Total { class, count, bytes } in &report.totals {
        terminal::print(&format!("{}: {count}, {}", class.name(), terminal::bytes(*bytes)))?;
    }
    let bytes = report.totals.iter().map(|total| total.bytes).sum();
    match (report.dry_run, report.totals.is_empty()) {
        (_, true) if report.left.is_empty() && report.failed.is_empty() => {
            terminal::print("nothing to reclaim")
        }
        (true, _) => terminal::print(&format!(
            "{} would be reclaimed; nothing was changed",
            terminal::bytes(bytes)
        )),
        (false, _) => terminal::print(&format!("{} reclaimed", terminal::bytes(bytes))),
    }
}
