//! L1 to L5: who may be logged in beside whom.

use presence_hub::presence::{
    Answer, Groups, Intent, KickedCount, LoginPolicy, OnConflict, Platform, PolicyFault, Preset,
    Refusal, State, WebTabs, Why, explain,
};

use super::{Life, MOBILE, Seat, named};
use Platform::{Android, Ios, Ipad, Linux, Mac, MiniProgram, Web, Windows};

/// The order of the rows and columns of the tables.
const ORDER: [Platform; 8] = [Android, Ios, Ipad, Windows, Mac, Linux, Web, MiniProgram];

/// A row for each platform that is logged in, a column for each that another device then logs in
/// on: `x` where the newer login kicks.
type Table = [&'static str; 8];

const ALL_CONFLICT: Table = ["xxxxxxxx"; 8];
const NATIVE_WEB: Table = [
    "xxxxxx..", "xxxxxx..", "xxxxxx..", "xxxxxx..", "xxxxxx..", "xxxxxx..", "......xx", "......xx",
];
const MOBILE_DESKTOP_WEB: Table = [
    "xxx.....", "xxx.....", "xxx.....", "...xxx..", "...xxx..", "...xxx..", "......xx", "......xx",
];
const SLOTS_ALONE: Table = [
    "x.......", ".x......", "..x.....", "...x....", "....x...", ".....x..", "......xx", "......xx",
];
const PLATFORMS_ALONE: Table = [
    "x.......", ".x......", "..x.....", "...x....", "....x...", ".....x..", "......x.", ".......x",
];
/// {android, windows, web} · {ios, ipad, mac} · {linux, miniprogram}
const CUSTOM: Table = [
    "x..x..x.", ".xx.x...", ".xx.x...", "x..x..x.", ".xx.x...", ".....x.x", "x..x..x.", ".....x.x",
];

/// Each policy with whether a mini-program counts as a web page, and its table.
fn tables() -> Vec<(LoginPolicy, Table)> {
    let preset = |preset, as_web| policy(Groups::Preset(preset), &[], as_web);
    let groups = vec![vec![Android, Windows, Web], vec![Ios, Ipad, Mac], vec![Linux, MiniProgram]];
    vec![
        (preset(Preset::Single, true), ALL_CONFLICT),
        (preset(Preset::Single, false), ALL_CONFLICT),
        (preset(Preset::Dual, true), NATIVE_WEB),
        (preset(Preset::Dual, false), NATIVE_WEB),
        (preset(Preset::Triple, true), MOBILE_DESKTOP_WEB),
        (preset(Preset::Triple, false), MOBILE_DESKTOP_WEB),
        (preset(Preset::Multi, true), SLOTS_ALONE),
        (preset(Preset::Multi, false), PLATFORMS_ALONE),
        (policy(Groups::Custom(groups), &[], false), CUSTOM),
    ]
}

fn policy(groups: Groups, instances: &[(Platform, u8)], as_web: bool) -> LoginPolicy {
    LoginPolicy::new(groups, instances, as_web).expect("a policy")
}

fn multi(instances: &[(Platform, u8)]) -> LoginPolicy {
    policy(Groups::Preset(Preset::Multi), instances, true)
}

fn rejecting(mut policy: LoginPolicy) -> LoginPolicy {
    policy.on_conflict = OnConflict::RejectNew;
    policy
}

/// Plays every ordered pair of platforms of every table.
fn each_pair(mut play: impl FnMut(LoginPolicy, Platform, Platform, bool)) {
    for (policy, table) in tables() {
        for (row, old) in table.into_iter().zip(ORDER) {
            for (cell, new) in row.chars().zip(ORDER) {
                play(policy.clone(), old, new, cell == 'x');
            }
        }
    }
}

#[test]
fn l1_l3_the_newer_of_two_logins_in_conflict_wins() {
    each_pair(|policy, old, new, conflicts| {
        let name = policy.name();
        let mut life = Life::under(policy);
        let first = life.login(old, "first");
        let second = life.login(new, "second");
        let kicked = if conflicts { vec![first.session] } else { Vec::new() };
        assert_eq!(life.kicked(), kicked, "{name}: {new} beside {old}");
        let told = if conflicts { vec![(first.connection, Why::LoginElsewhere)] } else { vec![] };
        assert_eq!(life.ends(), told);
        assert_eq!((life.stands(first), life.stands(second)), (!conflicts, true));
    });
}

#[test]
fn l4_a_phone_that_only_wants_push_is_kicked_as_an_online_one_is() {
    each_pair(|policy, old, new, conflicts| {
        if !MOBILE.contains(&old) {
            return;
        }
        let rejecting = rejecting(policy.clone());
        for policy in [policy, rejecting] {
            let mut life = Life::under(policy);
            let phone = life.login(old, "phone");
            life.close(phone);
            assert_eq!(life.state(), State::PushOnline);
            life.login(new, "second");
            assert_eq!(life.kicked().contains(&phone.session), conflicts, "{new} beside {old}");
            assert_eq!(life.ends(), [], "its connection has gone already");
        }
    });
}

#[test]
fn l3_reject_new_refuses_the_login_and_names_who_stands_in_the_way() {
    each_pair(|policy, old, new, conflicts| {
        let mut life = Life::under(rejecting(policy));
        let first = life.login(old, "first");
        let answer = life.enter(new, "second", Intent::New);
        if conflicts {
            let named = vec![(old, named("first"))];
            assert_eq!(answer, Err(Refusal::LoginConflict(named)), "{new} beside {old}");
        } else {
            assert!(answer.is_ok(), "{new} beside {old}");
        }
        assert!(life.stands(first));
        assert_eq!(life.record.terminals.len(), if conflicts { 1 } else { 2 });
    });
}

#[test]
fn l7_a_resume_of_nothing_is_admitted_only_where_a_login_would_kick_nobody() {
    each_pair(|policy, old, new, conflicts| {
        let rejecting = rejecting(policy.clone());
        for policy in [policy, rejecting] {
            let mut life = Life::under(policy);
            let first = life.login(old, "first");
            let answer = life.enter(new, "second", Intent::Resume(None));
            assert_eq!(answer.is_ok(), !conflicts, "{new} beside {old}");
            if conflicts {
                assert_eq!(answer, Err(Refusal::Superseded));
            }
            assert!(life.stands(first));
        }
    });
}

#[test]
fn l1_a_policy_is_a_partition() {
    let faults = |groups: &[&[Platform]], instances: &[(Platform, u8)], as_web: bool| {
        let groups = groups.iter().map(|group| group.to_vec()).collect();
        LoginPolicy::new(Groups::Custom(groups), instances, as_web).err().unwrap_or_default()
    };
    let natives = [Android, Ios, Ipad, Windows, Mac, Linux];
    let webs = [Web, MiniProgram];
    assert_eq!(faults(&[&natives, &webs], &[], true), []);
    assert_eq!(faults(&[&natives, &webs, &[Mac]], &[], true), [PolicyFault::Twice(Mac)]);
    assert_eq!(faults(&[&[Mac], &natives[..4], &webs], &[], true), [PolicyFault::Missing(Linux)]);
    assert_eq!(
        faults(&[&natives[1..], &[Web, Ios]], &[], false),
        [PolicyFault::Missing(Android), PolicyFault::Twice(Ios), PolicyFault::Missing(MiniProgram)],
        "all are named at once"
    );
    let parted: [&[Platform]; 3] = [&natives, &[Web], &[MiniProgram]];
    assert_eq!(faults(&parted, &[], true), [PolicyFault::PartedSlot]);
    assert_eq!(faults(&parted, &[], false), []);
}

#[test]
fn l2_a_slot_holds_1_to_100_devices() {
    let faults = |instances: &[(Platform, u8)], as_web| {
        let groups = Groups::Preset(Preset::Multi);
        LoginPolicy::new(groups, instances, as_web).err().unwrap_or_default()
    };
    assert_eq!(faults(&[(Ios, 1), (Web, 100)], true), []);
    assert_eq!(
        faults(&[(Ios, 0), (Web, 101)], true),
        [PolicyFault::Instances(Ios), PolicyFault::Instances(Web)]
    );
    assert_eq!(faults(&[(MiniProgram, 2)], true), [PolicyFault::SharedInstances]);
    assert_eq!(faults(&[(MiniProgram, 2)], false), []);
}

#[test]
fn l2_past_its_instances_a_slot_gives_up_its_earliest_login() {
    for room in [1, 2, 100] {
        let mut life = Life::under(multi(&[(Android, room)]));
        let names = devices(usize::from(room) + 2);
        let (fitting, more) = names.split_at(room.into());
        let seats: Vec<_> = fitting.iter().map(|device| life.login(Android, device)).collect();
        assert_eq!(life.record.terminals.len(), usize::from(room));
        for (device, earliest) in more.iter().zip(&seats) {
            life.login(Android, device);
            assert_eq!(life.kicked(), [earliest.session], "of {room}");
        }
    }
}

#[test]
fn l2_a_login_anew_makes_a_device_the_latest() {
    let mut life = Life::under(multi(&[(Android, 2)]));
    life.login(Android, "one");
    let two = life.login(Android, "two");
    life.login(Android, "one");
    life.login(Android, "three");
    assert_eq!(life.kicked(), [two.session]);
}

#[test]
fn l1_l2_web_pages_and_mini_programs_are_counted_together() {
    assert!(multi(&[]).share_group(Web, MiniProgram));
    let mut life = Life::under(multi(&[(Web, 2)]));
    let page = life.login(Web, "page");
    let program = life.login(MiniProgram, "program");
    life.login(MiniProgram, "another");
    assert_eq!(life.kicked(), [page.session]);
    life.login(Web, "page");
    assert_eq!(life.kicked(), [program.session]);
}

#[test]
fn l2_l5_tabs_count_as_their_browser_since_its_earliest_live_tab() {
    let mut life = Life::under(multi(&[(Web, 2)]));
    let early = life.login(Web, "browser");
    let other = life.login(Web, "other");
    let late = life.login(Web, "browser");
    let mut closed = life.clone();

    life.login(Web, "third");
    assert_eq!(life.kicked(), [early.session, late.session], "its tabs go together");
    assert!(life.stands(other));

    closed.logout(early);
    closed.login(Web, "third");
    assert_eq!(closed.kicked(), [other.session], "the tab that is left is younger");
}

#[test]
fn l5_a_device_that_is_there_already_is_replaced_in_place() {
    for platform in ORDER {
        let mut policy = LoginPolicy::preset(Preset::Single);
        policy.web_tabs = WebTabs::Replace;
        for policy in [policy.clone(), rejecting(policy)] {
            let mut life = Life::under(policy);
            let old = life.login(platform, "device");
            let new = life.login(platform, "device");
            assert_eq!(life.kicked(), []);
            assert_eq!(life.ends(), [(old.connection, Why::SameDevice)]);
            assert!(!life.last.effects.announce, "watchers see nothing");
            assert_eq!((life.stands(old), life.stands(new)), (false, true));
        }
    }
}

#[test]
fn l5_a_device_id_on_another_platform_is_another_device() {
    let mut life = Life::of(Preset::Single);
    let android = life.login(Android, "same");
    life.login(Ios, "same");
    assert_eq!(life.kicked(), [android.session]);
}

#[test]
fn l5_up_to_20_tabs_of_one_browser_stand_side_by_side() {
    for policy in [LoginPolicy::preset(Preset::Single), rejecting(multi(&[]))] {
        let mut life = Life::under(policy);
        let tabs: Vec<_> = (0..20).map(|_| life.login(Web, "browser")).collect();
        assert!(tabs.iter().all(|tab| life.stands(*tab)));

        let more = life.enter(Web, "browser", Intent::Resume(None));
        assert_eq!(more, Err(Refusal::Superseded), "a resume ends no tab");
        life.login(Web, "browser");
        assert_eq!(life.ends(), [(tabs[0].connection, Why::SameDevice)]);
        assert_eq!((life.kicked(), life.record.terminals.len()), (vec![], 20));

        for tab in &tabs[1..] {
            life.logout(*tab);
        }
        assert_eq!(life.state(), State::Online, "while one of them is");
    }
}

#[test]
fn l2_a_user_has_at_most_100_sessions() {
    let mut life = Life::under(multi(&[(Android, 40), (Web, 100)]));
    let names = devices(60);
    let phones: Vec<_> = names[..40].iter().map(|device| life.login(Android, device)).collect();
    let pages: Vec<_> = names.iter().map(|device| life.login(Web, device)).collect();
    assert_eq!(life.record.terminals.len(), 100);
    life.login(Web, "more");
    assert_eq!(life.kicked(), [pages[0].session], "the earliest of the same slot");
    assert_eq!(life.record.terminals.len(), 100);
    life.login(Mac, "desktop");
    assert_eq!(life.kicked(), [phones[0].session], "where the slot has none: the earliest");
    assert_eq!(life.record.terminals.len(), 100);
}

#[test]
fn l2_l5_past_100_sessions_tabs_go_as_one_browser_or_one_after_the_other() {
    let mut life = Life::under(multi(&[(Web, 100)]));
    let mut tabs =
        |device, count| -> Vec<Seat> { (0..count).map(|_| life.login(Web, device)).collect() };
    let first = tabs("a", 19);
    for device in ["b", "c", "d", "e"] {
        tabs(device, 20);
    }
    life.login(Web, "f");
    assert_eq!(life.record.terminals.len(), 100);
    let mut other = life.clone();

    life.login(Web, "a");
    assert_eq!(life.ends(), [(first[0].connection, Why::SameDevice)], "its own earliest tab");
    assert_eq!(life.kicked(), []);

    other.login(Web, "g");
    let sessions: Vec<_> = first.iter().map(|tab| tab.session).collect();
    assert_eq!(other.kicked(), sessions, "another device's login kicks tabs together");
}

#[test]
fn l3_under_reject_new_what_wants_push_makes_room_first() {
    let mut life = Life::under(rejecting(multi(&[(Android, 2)])));
    life.login(Android, "online");
    let drawer = life.login(Android, "drawer");
    life.close(drawer);
    life.login(Android, "new");
    assert_eq!(life.kicked(), [drawer.session], "though it is not the earliest");

    let refusal = life.enter(Android, "more", Intent::New);
    let named = vec![(Android, named("online")), (Android, named("new"))];
    assert_eq!(refusal, Err(Refusal::LoginConflict(named)));
}

#[test]
fn l3_under_reject_new_nobody_is_kicked_by_a_login_that_is_refused() {
    let mut life = Life::under(rejecting(multi(&[])));
    let drawer = life.login(Android, "drawer");
    life.close(drawer);
    let desktop = life.login(Mac, "desktop");
    life.policy.login = rejecting(LoginPolicy::preset(Preset::Single));
    assert!(life.enter(Ios, "new", Intent::New).is_err());
    assert!(life.stands(drawer) && life.stands(desktop));
}

#[test]
fn l3_l10_a_device_in_the_way_is_named_once() {
    let mut life = Life::under(multi(&[]));
    life.login(Web, "browser");
    life.login(Mac, "desktop");
    life.login(Web, "browser");
    life.policy.login = rejecting(LoginPolicy::preset(Preset::Single));
    let named = vec![(Web, named("browser")), (Mac, named("desktop"))];
    assert_eq!(life.enter(Ios, "new", Intent::New), Err(Refusal::LoginConflict(named)));
}

#[test]
fn l10_a_change_of_the_policy_takes_effect_at_the_next_login() {
    let mut life = Life::under(multi(&[(Android, 3)]));
    let seats = ["one", "two", "three"].map(|device| life.login(Android, device));
    let web = life.login(Web, "page");
    life.policy.login = LoginPolicy::preset(Preset::Multi);
    life.tick();
    assert!(seats.iter().all(|seat| life.stands(*seat)), "nobody is kicked by the change");
    assert!(life.resume(seats[0]).is_ok(), "nor by a resume");
    life.login(Android, "four");
    assert_eq!(life.kicked(), seats.map(|seat| seat.session));
    assert!(life.stands(web));
}

#[test]
fn l6_the_answer_and_the_notices_name_victims_and_victor() {
    let mut life = Life::of(Preset::Single);
    life.policy.login = multi(&[]);
    let phone = life.login(Android, "phone");
    let page = life.login(Web, "page");
    life.policy.login = LoginPolicy::preset(Preset::Single);
    let victor = life.login(Mac, "desktop");
    let Answer::Admitted { session, kicked, .. } = &life.last.answer else { panic!("a login") };
    let victims: Vec<_> =
        kicked.iter().map(|v| (v.platform, v.device.as_str(), v.session)).collect();
    assert_eq!(*session, victor.session);
    assert_eq!(victims, [(Android, "phone", phone.session), (Web, "page", page.session)]);
    let (by, at) = *life.last.effects.kick.clone().expect("a kick");
    assert_eq!(at, life.wall());
    let presence_hub::presence::Kicker::Login(by) = by else { panic!("by a login: {by:?}") };
    assert_eq!((by.platform, by.device, by.session), (Mac, named("desktop"), victor.session));
}

#[test]
fn explain_tells_whom_a_login_would_kick_by_this_policy_and_by_each_preset() {
    let dual = policy(Groups::Preset(Preset::Dual), &[(Web, 2)], true);
    let beside = |existing: &str, login, policy: &_| {
        explain(&existing.parse().expect("devices"), login, policy)
    };
    let counts = |counts: &[(Platform, usize)]| -> Vec<_> {
        counts.iter().map(|&(platform, count)| KickedCount { count, platform }).collect()
    };
    let explained = beside("web,android:2", Ios, &dual);
    assert_eq!(explained.policy, "dual");
    assert_eq!((explained.kicked, explained.rejected), (counts(&[(Android, 2)]), false));
    let presets = [
        ("dual", counts(&[(Android, 2)])),
        ("multi", vec![]),
        ("single", counts(&[(Android, 2), (Web, 1)])),
        ("triple", counts(&[(Android, 2)])),
    ];
    assert_eq!(explained.presets, presets.into());
    assert_eq!(beside("web:2", MiniProgram, &dual).kicked, counts(&[(Web, 1)]));

    let rejected = beside("web,android:2", Ios, &rejecting(dual));
    assert_eq!((rejected.kicked, rejected.rejected), (vec![], true));
    let presets = rejected.presets;
    assert_eq!(presets["dual"], counts(&[(Android, 2)]), "presets are explained as they kick");
}

/// As many names.
fn devices(count: usize) -> Vec<&'static str> {
    (0..count).map(|n| &*format!("d{n}").leak()).collect()
}
