//! What a session says of its device: left alone or in use (A2), in the background or the foreground (T15, A4).

use std::time::Duration;

use super::draft::{Draft, change};
use super::{
    Activity, Answer, Background, BackgroundReason, Cause, Evidence, Origin, Platform, Refusal,
};

impl Draft<'_> {
    /// A2. Like everything that can wait, it is refused while the user has filled the quota of the log (V7).
    pub(super) fn idle(&mut self, origin: Origin, untouched: Duration) -> Answer {
        let Some(index) = self.index_of(origin) else { return Answer::Stale };
        if self.is_over_quota() {
            return Answer::Refused(Refusal::LogQuota);
        }
        self.change_activity(index, Activity::untouched_for(untouched, self.wall));
        Answer::Done
    }

    /// A2.
    pub(super) fn active(&mut self, origin: Origin) -> Answer {
        let Some(index) = self.index_of(origin) else { return Answer::Stale };
        self.change_activity(index, Activity::Active(Some(self.wall)));
        Answer::Done
    }

    /// T15; for a mini-program sets the deadline of T6 or T7, which a later tick applies. A native app or a
    /// mini-program is idle from now on (A4).
    pub(super) fn background(&mut self, origin: Origin, reason: BackgroundReason) -> Answer {
        let Some(index) = self.index_of(origin) else { return Answer::Stale };
        if self.is_over_quota() {
            return Answer::Refused(Refusal::LogQuota);
        }
        let windows = &self.policy.windows;
        let window = match reason {
            BackgroundReason::Hide => windows.background,
            BackgroundReason::Exit => windows.exit,
        };
        let terminal = &mut self.record.terminals[index];
        let has_deadline = terminal.platform == Platform::MiniProgram;
        let new = Background {
            reason,
            since: self.now,
            deadline: has_deadline.then(|| self.now + window),
        };
        let kept = match terminal.background {
            Some(old) if !has_deadline || old.deadline <= new.deadline => old,
            Some(_) | None => new,
        };
        terminal.background = Some(kept);
        if terminal.platform != Platform::Web {
            self.change_activity(index, Activity::Idle(self.wall));
        }
        Answer::Background { deadline: kept.deadline }
    }

    /// Clears the deadline of T6 and T7 (T15). A native app or a mini-program is active from now on (A4).
    pub(super) fn foreground(&mut self, origin: Origin) -> Answer {
        let Some(index) = self.index_of(origin) else { return Answer::Stale };
        let terminal = &mut self.record.terminals[index];
        terminal.background = None;
        if terminal.platform != Platform::Web {
            self.change_activity(index, Activity::Active(Some(self.wall)));
        }
        Answer::Done
    }

    /// Changes the activity of a terminal; logged only if it changes whether the user is away (A6).
    pub(super) fn change_activity(&mut self, index: usize, activity: Activity) {
        let was_away = self.record.is_away();
        let is_other = self.record.terminals[index].becomes(activity);
        if !is_other || self.record.is_away() == was_away {
            return;
        }
        let terminal = &self.record.terminals[index];
        let state = Some(terminal.state());
        let evidence = Evidence { address: terminal.address, ..Evidence::default() };
        let cause = if activity.is_idle() { Cause::Idle } else { Cause::Active };
        self.log(cause, Some(change(terminal, state, state)), evidence);
    }
}
