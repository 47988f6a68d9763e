//! Churn as days without activity: what is learned of it, what answers, and what the gate can say.

use crate::support::{as_of, rules, settings, train};
use habitus_engine::domain::{
    Abstention, Answer, CustomerId, Event, EventKind, History, Inactivity, Kinds, Seed,
};
use habitus_engine::features::{Plan, inputs_of_activity, purchases};
use habitus_engine::models::selection::Family;
use habitus_engine::scoring::Scorer;
use habitus_engine::simulation::{Shop, customer};
use habitus_engine::training::{
    ClockError, GateParams, Outcome, Predecessor, TrainError, TrainingSettings, judge,
};
use habitus_engine::version::{ChurnIs, Incumbent};

const MONTH: Inactivity = Inactivity { days: 30, activity: Kinds::OF_CUSTOMERS };

/// `n` simulated customers over 500 days from 2020-01-01 with all that they do.
fn visitors(n: u64) -> Vec<History> {
    let (zone, shop) = (rules().zone, Shop { days: 500, ..Shop::default() }.settle().unwrap());
    let history = |index: u64| {
        let life = customer(&shop, Seed(5), index);
        let event = |event: &habitus_engine::simulation::SimulatedEvent| Event {
            amount: event.amount,
            ..Event::bare(event.at, zone.day_of(event.at), event.kind)
        };
        let id = CustomerId::new(&format!("c{index:05}"));
        History::new(id, life.events.iter().map(event).collect())
    };
    (0..n).map(history).collect()
}

fn inactive(inactivity: Inactivity) -> TrainingSettings {
    let mut spec = purchases();
    spec.0.extend(inputs_of_activity(&spec, &inactivity));
    let churn_is = ChurnIs::Inactivity(inactivity);
    TrainingSettings { spec, churn_is, ..settings(Family::Kmeans, 3, 3) }
}

#[test]
fn statuses_and_probabilities_are_of_activity() {
    let trained = train(&visitors(800), &inactive(MONTH), as_of("2021-05-01")).unwrap();
    let families: Vec<&str> =
        trained.evaluation.churn.iter().map(|trial| trial.family.as_str()).collect();
    assert_eq!(families, ["logistic", "recency"]);
    let scorer = Scorer::new(trained.version).unwrap();
    let zone = rules().zone;
    let event = |kind, date: &str| {
        let at = zone.parse(date, None).unwrap().at;
        Event::bare(at, zone.day_of(at), kind)
    };
    let ask = |events: Vec<Event>, date: &str| {
        scorer.predict(&History::new(CustomerId::new("a"), events), as_of(date))
    };
    // A year without a purchase is no inactivity of who was there yesterday.
    let visitor =
        || vec![event(EventKind::Purchase, "2020-05-01"), event(EventKind::Visit, "2021-03-01")];
    let answer = ask(visitor(), "2021-03-30").churn;
    let given = answer.given().unwrap();
    assert!((0.0..=1.0).contains(&given.probability), "{given:?}");
    assert!(!given.reasons.is_empty());
    assert_eq!(ask(visitor(), "2021-03-31").churn, Answer::Abstained(Abstention::AlreadyLost));
    // What the company does is no activity.
    let mut contacted = visitor();
    contacted.push(event(EventKind::Campaign, "2021-03-30"));
    let lost = ask(contacted, "2021-03-31");
    assert_eq!(lost.churn, Answer::Abstained(Abstention::AlreadyLost));
    assert!(lost.segment.given().is_some() && lost.value.given().is_some());
}

#[test]
fn nobody_is_lost_on_a_day_that_has_merely_begun() {
    let zone = rules().zone;
    let at = |text: &str| zone.as_of(zone.parse(text, None).unwrap().at);
    let visit = at("2021-03-01 09:00");
    let history = History::new(
        CustomerId::new("a"),
        vec![Event::bare(visit.at, visit.day, EventKind::Visit)],
    );
    let log = visitors(800);
    for (days, last, next) in [(1, "2021-03-02", "2021-03-03"), (7, "2021-03-08", "2021-03-09")] {
        let settings = inactive(Inactivity { days, ..MONTH });
        // Trained in mid-day, when of the last day nobody can tell.
        let noon = zone.parse_as_of("2021-05-01T12:00:00Z").unwrap();
        let version = train(&log, &settings, noon).unwrap().version;
        let scorer = Scorer::new(version).unwrap();
        let is_lost = |as_of| {
            scorer.predict(&history, as_of).churn == Answer::Abstained(Abstention::AlreadyLost)
        };
        for time in ["00:00", "12:00", "23:59:59"] {
            assert!(!is_lost(at(&format!("{last} {time}"))), "{days} days, {last} {time}");
        }
        assert!(is_lost(as_of(last)) && is_lost(at(&format!("{next} 00:00"))), "{days} days");
    }
}

#[test]
fn a_version_that_would_call_everybody_lost_is_refused() {
    // The log ends with 2021-05-14: of c3 there is somebody to ask about, of the as-of nobody.
    let (log, now) = (visitors(300), as_of("2021-07-01"));
    let refused = |settings: &TrainingSettings| {
        let error = train(&log, settings, now).unwrap_err();
        assert_eq!(error, TrainError::NobodyAt { day: now.day });
        let text = error.to_string();
        assert!(text.contains("2021-07-01"), "{text}");
        text
    };
    assert!(refused(&inactive(MONTH)).contains("model.inactive_days"));
    let mut lost = settings(Family::Kmeans, 3, 3);
    lost.eligibility.lost_after_days = Some(30);
    assert!(refused(&lost).contains("model.lost_after_days"));
    // Where one customer is left there is a version, whose percentiles are numbers.
    lost.eligibility.lost_after_days = Some(60);
    let percentiles = train(&log, &lost, now).unwrap().version.forecast.churn.percentiles;
    assert!(percentiles.len() == 101 && percentiles.iter().all(|p| p.is_finite()));
    // Percentiles of nobody are none, and not what a file cannot hold.
    let mut head = train(&log, &lost, now).unwrap().version.forecast.churn;
    head.freeze_percentiles(vec![f64::NAN]);
    assert!(head.percentiles.is_empty() && head.percentile(0.5) == 0.0);
}

#[test]
fn what_the_spec_computes_already_is_not_added() {
    let of_purchases = Inactivity { days: 90, activity: vec![EventKind::Purchase].into() };
    let spec = purchases();
    // The default pack has the last purchase, the days of the quarter and the gaps.
    assert!(inputs_of_activity(&spec, &of_purchases).is_empty());
    let names: Vec<String> =
        inputs_of_activity(&spec, &MONTH).into_iter().map(|feature| feature.name).collect();
    assert_eq!(names, ["days_since_activity", "active_days_lately", "activity_gap_mean"]);
    assert!(Plan::compile(&inactive(MONTH).spec, &rules()).is_ok());
}

#[test]
fn a_short_log_is_refused_and_not_bridged() {
    let log = visitors(300);
    let settings = TrainingSettings { horizon_days: 150, ..inactive(MONTH) };
    let error = train(&log, &settings, as_of("2021-05-01")).unwrap_err();
    let TrainError::InactivityNotBridged { window_days, horizon_days, .. } = error else {
        panic!("{error:?}");
    };
    assert!(window_days < 150 && horizon_days == 150);
    let at_most = format!("`model.horizon_days` can be {window_days} at most");
    assert!(error.to_string().ends_with(&at_most), "{error}");
    // A horizon below the days of inactivity would be refused too, and is not advised.
    let days = Inactivity { days: window_days + 1, ..MONTH };
    let circle = TrainingSettings { horizon_days: 150, ..inactive(days) };
    let text = train(&log, &circle, as_of("2021-05-01")).unwrap_err().to_string();
    let both = format!("`model.inactive_days` = {}", window_days + 1);
    assert!(text.contains(&both) && !text.contains("can be"), "{text}");
    let settings = TrainingSettings { horizon_days: window_days, ..settings };
    let trained = train(&log, &settings, as_of("2021-05-01")).unwrap();
    assert!(!trained.evaluation.bridged);
    let error = train(&log, &settings, as_of("2020-01-20")).unwrap_err();
    let too_short = matches!(error, TrainError::Clock(ClockError::LogTooShort { .. }));
    assert!(too_short, "{error:?}");
}

#[test]
fn the_gate_judges_inactivity_by_whole_horizons_alone() {
    let log = visitors(800);
    let settings = inactive(MONTH);
    let then = as_of("2021-02-01");
    let version = train(&log, &settings, then).unwrap().version;
    let incumbent = Incumbent { version: "old".into(), digest: "0".into() };
    let predecessor = Predecessor { incumbent: &incumbent, version: &version, as_of: then };
    let verdict = |settings: &TrainingSettings, date: &str| {
        let params = GateParams::default();
        judge(&log, settings, &predecessor, as_of(date), None, &params).unwrap()
    };
    // Sixty days later the horizon is over.
    let whole = verdict(&settings, "2021-04-02");
    assert_eq!((whole.outcome, whole.window_days), (Outcome::Passed, 60), "{:?}", whole.reasons);
    let brier = &whole.comparisons[0];
    assert!(brier.n_customers > 200 && brier.incumbent == brier.candidate, "{brier:?}");
    // Fifty days tell of spend, and nothing of inactivity within sixty.
    let part = verdict(&settings, "2021-03-23");
    assert_eq!((part.outcome, part.comparisons[0].n_customers), (Outcome::Undecided, 0));
    assert!(part.comparisons[2].incumbent.is_some());
    let [reason] = &part.reasons[..] else { panic!("{:?}", part.reasons) };
    assert!(reason.contains("50 days") && reason.contains("60 days"), "{reason}");
    // In the middle of the sixtieth day the horizon is not over yet.
    let noon = verdict(&settings, "2021-04-02T12:00:00Z");
    assert_eq!((noon.outcome, noon.window_days), (Outcome::Undecided, 59));
    assert!(noon.reasons[0].contains("59 days"), "{:?}", noon.reasons);
    // Another number of days is another question.
    let longer = Inactivity { days: 45, ..MONTH };
    let bought = Inactivity { activity: vec![EventKind::Purchase].into(), ..MONTH };
    for (other, by) in [
        (longer, "another model.inactive_days)"),
        (bought, "another model.activity)"),
        (Inactivity { days: 45, ..bought }, "model.inactive_days and model.activity)"),
    ] {
        let other = verdict(&inactive(other), "2021-04-02");
        assert!(other.outcome == Outcome::Undecided && other.comparisons.is_empty());
        let reason = &other.reasons[0];
        assert!(reason.contains("model.churn") && reason.ends_with(by), "{reason}");
    }
    let silence = TrainingSettings { churn_is: ChurnIs::Silence, ..inactive(MONTH) };
    let reason = &verdict(&silence, "2021-04-02").reasons[0];
    assert!(reason.ends_with("(model.churn)"), "{reason}");
}
