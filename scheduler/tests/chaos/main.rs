//! The proof of leases and fencing. Real workers with real jobs, a real Postgres, and harm that is
//! done a hundred times as dice fall that a seed throws; in the end nothing is lost, doubled or
//! written by a stale attempt, and every result is that of a run that nothing ever disturbed.
//!
//! `PALETTE_CHAOS_SEED` throws other dice, `PALETTE_CHAOS_FAULTS` does more harm or less, and
//! `PALETTE_CHAOS_KEEP` leaves the folder of the test where it is.

#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod audit;
mod faults;
mod fleet;
mod job;
mod proxy;
mod self_check;
mod supply;

use std::time::Instant;

use faults::{Faults, look};
use fleet::{Fleet, PATIENCE};
use job::Dice;
use supply::Supply;

#[test]
fn nothing_is_lost_doubled_or_written_by_a_stale_attempt_in_a_hundred_faults() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("PALETTE_CHAOS_SEED").unwrap_or(1);
    let count = number("PALETTE_CHAOS_FAULTS").unwrap_or(100);
    let began = Instant::now();
    let mut fleet = Fleet::new(4);
    let mut supply = Supply::new(seed);
    let mut faults = Faults::new(seed);
    let mut pace = Dice(!seed);
    let mut found = Vec::new();

    for _ in 0..count {
        // Until the jobs have moved on, or it is clear that they stand.
        let writes = fleet.writes() + i64::try_from(pace.within(1..700)).unwrap();
        for _ in 0..60 {
            supply.refill(&fleet);
            fleet.fill_seats();
            found.extend(faults.heal(&fleet));
            if fleet.writes() >= writes {
                break;
            }
            look();
        }
        faults.strike(&fleet, &supply.victims);
    }
    let harmed = began.elapsed();

    // Now nothing is done to them any more.
    faults.heal_all(&fleet);
    let mut last = (Instant::now(), 0);
    while supply.unfinished(&fleet) > 0 {
        fleet.fill_seats();
        supply.resume_paused(&fleet);
        let writes = fleet.writes();
        if writes != last.1 {
            last = (Instant::now(), writes);
        } else if last.0.elapsed() > PATIENCE {
            found.push(format!("jobs do not go on: {:?}", supply.left(&fleet)));
            break;
        }
        look();
    }
    fleet.send_home();
    found.extend(fleet.runtime.block_on(audit::all(&fleet.database, &fleet.pool, &supply.groups)));
    found.extend(supply.victims_not_ended(&fleet));

    println!("seed {seed}: {count} faults in {harmed:.0?}, all ended in {:.0?}", began.elapsed());
    for (fault, times) in &faults.done {
        println!("{times:>4} {fault}");
    }
    println!("{}", supply.summary(&fleet));
    let report = found.join("\n");
    let reports = fleet.reports();
    if std::env::var_os("PALETTE_CHAOS_KEEP").is_some() {
        println!("kept in {}", fleet.house.path("").display());
        std::mem::forget(fleet);
    }
    assert!(found.is_empty(), "seed {seed}: {} violations\n{report}\n{reports}", found.len());
}
