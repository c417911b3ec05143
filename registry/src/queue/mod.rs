//! The queue: jobs, from their submission over claims and attempts to their end. Which statements move a
//! job from state to state is listed in [`state`].

mod amounts;
pub(crate) mod attempts;
mod claim;
mod command;
pub(crate) mod control;
pub(crate) mod fence;
mod gangs;
mod gpu_count;
pub(crate) mod jobs;
pub(crate) mod keeper;
pub(crate) mod marks;
mod moments;
mod options;
pub(crate) mod order;
pub(crate) mod preempt;
pub(crate) mod request;
pub mod state;
mod waits;

pub use amounts::walltime;
pub use attempts::{After, AttemptRow, Ended, EndedAttempt, Look, Outcome, Tail};
pub use claim::{Claimed, LEFT_TO_OTHERS, Lease, collective_limit, seconds};
pub use command::CommandLine;
pub use control::GoOn;
pub use fence::{Fence, Idle};
pub use gangs::{Gang, OtherHost, Seat, SeatRow, TOO_FEW_HOSTS};
pub use gpu_count::GpuCount;
pub use jobs::{Job, JobFilter, JobKind, NewJob, Submitted};
pub use keeper::{Keeper, Notice};
pub use moments::Since;
pub use options::JobOptions;
pub use order::AwaitedJob;
pub use preempt::{Asked, Free};
pub use state::{JobState, StopRequest};
pub use waits::{short_of_hosts, waiting, why_not};
