//! L1 to L6 and L10: which devices may be logged in together.

use presence_hub::presence::{
    Answer, EndReason, Groups, Intent, KickedCount, LoginPolicy, OnConflict, Platform, PolicyFault,
    Preset, Refusal, State, WebTabs, explain,
};

use super::{Life, MOBILE, Seat, named};
use Platform::{Android, Ios, Ipad, Linux, Mac, MiniProgram, Web, Windows};

/// The order of the rows and columns of the tables.
const ORDER: [Platform; 8] = [Android, Ios, Ipad, Windows, Mac, Linux, Web, MiniProgram];

/// A row for each platform that is logged in, a column for each platform of a second login: `x` if the
/// second login kicks the first.
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

/// Each policy with its table; the flag says whether mini-programs share the web's slot.
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
fn l1_l3_newer_login_kicks_the_one_it_conflicts_with() {
    each_pair(|policy, old, new, conflicts| {
        let name = policy.name();
        let mut life = Life::under(policy);
        let first = life.login(old, "first");
        let second = life.login(new, "second");
        let kicked = if conflicts { vec![first.session] } else { Vec::new() };
        assert_eq!(life.kicked(), kicked, "{name}: {new} beside {old}");
        let ends =
            if conflicts { vec![(first.connection, EndReason::LoginElsewhere)] } else { vec![] };
        assert_eq!(life.ends(), ends);
        assert_eq!((life.stands(first), life.stands(second)), (!conflicts, true));
    });
}

#[test]
fn l4_push_online_phone_is_kicked_like_an_online_one() {
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
            assert_eq!(life.ends(), [], "its connection has ended already");
        }
    });
}

#[test]
fn l3_reject_new_refuses_the_login_and_names_the_conflicting_devices() {
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
fn l7_resume_without_a_session_is_admitted_only_without_a_conflict() {
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
fn l1_policy_that_is_not_a_partition_is_refused_with_all_faults() {
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
        "all faults are reported together"
    );
    let parted: [&[Platform]; 3] = [&natives, &[Web], &[MiniProgram]];
    assert_eq!(faults(&parted, &[], true), [PolicyFault::PartedSlot]);
    assert_eq!(faults(&parted, &[], false), []);
}

#[test]
fn l2_max_instances_must_be_1_to_100() {
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
fn l2_full_slot_kicks_its_earliest_login() {
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
fn l2_repeated_login_makes_a_device_the_newest() {
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
fn l2_l5_browser_is_as_old_as_its_earliest_live_tab() {
    let mut life = Life::under(multi(&[(Web, 2)]));
    let early = life.login(Web, "browser");
    let other = life.login(Web, "other");
    let late = life.login(Web, "browser");
    let mut closed = life.clone();

    life.login(Web, "third");
    assert_eq!(life.kicked(), [early.session, late.session], "its tabs are kicked together");
    assert!(life.stands(other));

    closed.logout(early);
    closed.login(Web, "third");
    assert_eq!(closed.kicked(), [other.session], "the remaining tab is newer");
}

#[test]
fn l5_second_login_of_a_device_replaces_the_first() {
    for platform in ORDER {
        let mut policy = LoginPolicy::preset(Preset::Single);
        policy.web_tabs = WebTabs::Replace;
        for policy in [policy.clone(), rejecting(policy)] {
            let mut life = Life::under(policy);
            let old = life.login(platform, "device");
            let new = life.login(platform, "device");
            assert_eq!(life.kicked(), []);
            assert_eq!(life.ends(), [(old.connection, EndReason::SameDevice)]);
            assert!(!life.last.effects.status_changed, "watchers see nothing");
            assert_eq!((life.stands(old), life.stands(new)), (false, true));
        }
    }
}

#[test]
fn l5_same_device_id_on_another_platform_is_another_device() {
    let mut life = Life::of(Preset::Single);
    let android = life.login(Android, "same");
    life.login(Ios, "same");
    assert_eq!(life.kicked(), [android.session]);
}

#[test]
fn l5_up_to_20_tabs_of_one_browser_coexist() {
    for policy in [LoginPolicy::preset(Preset::Single), rejecting(multi(&[]))] {
        let mut life = Life::under(policy);
        let tabs: Vec<_> = (0..20).map(|_| life.login(Web, "browser")).collect();
        assert!(tabs.iter().all(|tab| life.stands(*tab)));

        let more = life.enter(Web, "browser", Intent::Resume(None));
        assert_eq!(more, Err(Refusal::Superseded), "a resume ends no tab");
        life.login(Web, "browser");
        assert_eq!(life.ends(), [(tabs[0].connection, EndReason::SameDevice)]);
        assert_eq!((life.kicked(), life.record.terminals.len()), (vec![], 20));

        for tab in &tabs[1..] {
            life.logout(*tab);
        }
        assert_eq!(life.state(), State::Online, "one tab is enough");
    }
}

#[test]
fn l2_user_has_at_most_100_sessions() {
    let mut life = Life::under(multi(&[(Android, 40), (Web, 100)]));
    let names = devices(60);
    let phones: Vec<_> = names[..40].iter().map(|device| life.login(Android, device)).collect();
    let pages: Vec<_> = names.iter().map(|device| life.login(Web, device)).collect();
    assert_eq!(life.record.terminals.len(), 100);
    life.login(Web, "more");
    assert_eq!(life.kicked(), [pages[0].session], "the earliest of the same slot");
    assert_eq!(life.record.terminals.len(), 100);
    life.login(Mac, "desktop");
    assert_eq!(life.kicked(), [phones[0].session], "if the slot is empty: the earliest of all");
    assert_eq!(life.record.terminals.len(), 100);
}

#[test]
fn l2_l5_session_101_ends_one_own_tab_or_a_whole_other_browser() {
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
    assert_eq!(life.ends(), [(first[0].connection, EndReason::SameDevice)], "its own earliest tab");
    assert_eq!(life.kicked(), []);

    other.login(Web, "g");
    let sessions: Vec<_> = first.iter().map(|tab| tab.session).collect();
    assert_eq!(other.kicked(), sessions, "another device's login kicks tabs together");
}

#[test]
fn l3_reject_new_kicks_push_online_devices_to_make_room() {
    let mut life = Life::under(rejecting(multi(&[(Android, 2)])));
    life.login(Android, "online");
    let drawer = life.login(Android, "drawer");
    life.close(drawer);
    life.login(Android, "new");
    assert_eq!(life.kicked(), [drawer.session], "although it is not the earliest");

    let refusal = life.enter(Android, "more", Intent::New);
    let named = vec![(Android, named("online")), (Android, named("new"))];
    assert_eq!(refusal, Err(Refusal::LoginConflict(named)));
}

#[test]
fn l3_refused_login_kicks_nothing_under_reject_new() {
    let mut life = Life::under(rejecting(multi(&[])));
    let drawer = life.login(Android, "drawer");
    life.close(drawer);
    let desktop = life.login(Mac, "desktop");
    life.policy.login = rejecting(LoginPolicy::preset(Preset::Single));
    assert!(life.enter(Ios, "new", Intent::New).is_err());
    assert!(life.stands(drawer) && life.stands(desktop));
}

#[test]
fn l3_l10_conflicting_device_is_named_once() {
    let mut life = Life::under(multi(&[]));
    life.login(Web, "browser");
    life.login(Mac, "desktop");
    life.login(Web, "browser");
    life.policy.login = rejecting(LoginPolicy::preset(Preset::Single));
    let named = vec![(Web, named("browser")), (Mac, named("desktop"))];
    assert_eq!(life.enter(Ios, "new", Intent::New), Err(Refusal::LoginConflict(named)));
}

#[test]
fn l10_changed_policy_applies_from_the_next_login() {
    let mut life = Life::under(multi(&[(Android, 3)]));
    let seats = ["one", "two", "three"].map(|device| life.login(Android, device));
    let web = life.login(Web, "page");
    life.policy.login = LoginPolicy::preset(Preset::Multi);
    life.tick();
    assert!(seats.iter().all(|seat| life.stands(*seat)), "the change kicks nothing");
    assert!(life.resume(seats[0]).is_ok(), "nor by a resume");
    life.login(Android, "four");
    assert_eq!(life.kicked(), seats.map(|seat| seat.session));
    assert!(life.stands(web));
}

#[test]
fn l6_answer_names_the_kicked_terminals_and_notices_name_the_kicker() {
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
fn explain_lists_kicked_devices_for_the_policy_and_each_preset() {
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
    assert_eq!(presets["dual"], counts(&[(Android, 2)]), "presets are explained with kick_old");
}

/// Makes this many device ids.
fn devices(count: usize) -> Vec<&'static str> {
    (0..count).map(|n| &*format!("d{n}").leak()).collect()
}
