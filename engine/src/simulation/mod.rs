//! Customers who never were: shoppers drawn from a known process, for benches, tests and trials.
//!
//! Purchases follow the BG/NBD of Fader, Hardie & Lee (2005), "'Counting Your Customers' the Easy
//! Way: An Alternative to the Pareto/NBD Model", *Marketing Science* 24(2): each customer buys at
//! an own rate and may stay away for good after any repeat purchase. Seasons and campaigns thin
//! that process; visits, carts, refunds and ratings hang on it. What was drawn for a customer is
//! told beside the events, so that a model can be held against it.
//!
//! `population` holds the parameters, `expectation` what they lead to on average, `draws` the
//! `population` holds the parameters, `expectation` what they lead to on average, `pace` the seasons,
//! and `life` one customer's events.
//!
//! What is absent: logins, tickets and referrals, several items in one order, and prices of items.

mod expectation;
mod life;
mod pace;
mod population;

pub use life::{Life, SimulatedEvent, Truth, customer};
pub use population::{Shop, ShopError};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventKind, Seed};

    const MS_PER_DAY: i64 = 86_400_000;
    const MANY: u64 = 4_000;

    fn lives(shop: &Shop, n: u64) -> Vec<Life> {
        (0..n).map(|index| customer(shop, Seed(42), index)).collect()
    }

    fn of_kind(life: &Life, kind: EventKind) -> impl Iterator<Item = &SimulatedEvent> {
        life.events.iter().filter(move |event| event.kind == kind)
    }

    fn purchases(life: &Life) -> Vec<SimulatedEvent> {
        let purchases = of_kind(life, EventKind::Purchase);
        // The number counts all events, so it is the one thing that others change.
        purchases.map(|event| SimulatedEvent { number: 0, ..*event }).collect()
    }

    fn mean(values: impl Iterator<Item = f64>) -> f64 {
        let values: Vec<f64> = values.collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn the_same_seed_gives_the_same_life_and_another_gives_another() {
        let shop = Shop::default();
        let life = |seed, index| customer(&shop, Seed(seed), index);
        assert_eq!(life(1, 7), life(1, 7));
        assert_ne!(life(1, 7).truth, life(1, 8).truth);
        assert_ne!(life(1, 7).truth, life(2, 7).truth);
    }

    #[test]
    fn events_are_numbered_in_time_order_within_the_span() {
        let shop = Shop { refund_probability: 0.5, rating_probability: 0.5, ..Shop::default() };
        let start = i64::from(shop.start.0) * MS_PER_DAY;
        let end = start + i64::from(shop.days) * MS_PER_DAY;
        let mut kinds = [0u32; EventKind::ALL.len()];
        for (index, life) in (0..).zip(lives(&shop, 300)) {
            assert!(life.events.is_sorted_by_key(|event| event.at));
            for (number, event) in (0..).zip(&life.events) {
                assert_eq!((event.customer, event.number), (index, number));
                assert!(event.at.0 >= start && event.at.0 < end, "{event:?}");
                kinds[event.kind as usize] += 1;
            }
            assert_eq!(life.events.first().map(|event| event.kind), Some(EventKind::Purchase));
        }
        let absent = [EventKind::Login, EventKind::Ticket, EventKind::Referral];
        for kind in EventKind::ALL {
            assert_eq!(kinds[kind as usize] == 0, absent.contains(&kind), "{kind:?}");
        }
    }

    #[test]
    fn without_seasons_campaigns_and_dropout_repeats_are_rate_times_time() {
        let plain = Shop { season_amplitude: 0.0, campaign_uplift: 0.0, a: 0.0, ..Shop::default() };
        let shop = Shop { acquired_within: 0.0, ..plain }.only_purchases();
        let lives = lives(&shop, MANY);
        let repeats = mean(lives.iter().map(|life| purchases(life).len() as f64 - 1.0));
        let expected = shop.r / shop.alpha * f64::from(shop.days);
        assert!((repeats / expected - 1.0).abs() < 0.1, "{repeats} against {expected}");
        assert!(lives.iter().all(|life| life.truth.alive_until.is_none()));
    }

    #[test]
    fn as_many_orders_result_as_were_asked_for() {
        for asked in [2.0, 10.0] {
            let shop = Shop { mean_orders: Some(asked), ..Shop::default() };
            let shop = shop.settle().unwrap().only_purchases();
            let orders = mean(lives(&shop, MANY).iter().map(|life| purchases(life).len() as f64));
            assert!((orders / asked - 1.0).abs() < 0.15, "{orders} against {asked}");
        }
    }

    #[test]
    fn a_shop_that_is_not_settled_gives_the_lives_of_the_settled_one() {
        let shop = Shop { mean_orders: Some(5.0), ..Shop::default() };
        let settled = shop.clone().settle().unwrap();
        assert_eq!(lives(&shop, 3), lives(&settled, 3));
    }

    #[test]
    fn refunds_never_exceed_their_order() {
        let shop = Shop { refund_probability: 0.8, spend_mean: 0.05, ..Shop::default() };
        let mut n_refunds = 0;
        for life in lives(&shop, 300) {
            let orders = purchases(&life);
            for refund in of_kind(&life, EventKind::Refund) {
                let order = orders.iter().find(|order| order.order == refund.order).unwrap();
                assert!(refund.amount.unwrap().0 >= 1 && refund.amount <= order.amount);
                assert!(refund.at >= order.at && refund.quantity <= order.quantity);
                n_refunds += 1;
            }
        }
        assert!(n_refunds > 300, "{n_refunds}");
    }

    #[test]
    fn what_follows_purchases_does_not_change_them() {
        let full = Shop::default();
        let bare = full.clone().only_purchases();
        for (full, bare) in lives(&full, 100).iter().zip(&lives(&bare, 100)) {
            assert_eq!(full.truth, bare.truth);
            assert_eq!(purchases(full), purchases(bare));
            let rest = [EventKind::Purchase, EventKind::Campaign];
            assert!(bare.events.iter().all(|event| rest.contains(&event.kind)));
        }
    }

    #[test]
    fn who_stayed_away_did_so_on_the_day_of_the_last_purchase() {
        let shop = Shop::default();
        let mut n_gone = 0;
        for life in lives(&shop, 300) {
            let Some(day) = life.truth.alive_until else {
                continue;
            };
            n_gone += 1;
            let last = purchases(&life).last().map(|event| event.at.0.div_euclid(MS_PER_DAY));
            assert_eq!(last, Some(i64::from(day.0)));
            let visits = of_kind(&life, EventKind::Visit);
            assert!(
                visits.map(|event| event.at.0).all(|at| at < (i64::from(day.0) + 1) * MS_PER_DAY)
            );
        }
        assert!((30..270).contains(&n_gone), "{n_gone}");
    }

    #[test]
    fn amounts_discounts_items_and_stars_are_what_they_can_be() {
        let shop = Shop {
            discount_probability: 1.0,
            discount_depth: 0.6,
            spend_mean: 0.03,
            rating_probability: 1.0,
            items: 10,
            categories: 4,
            ..Shop::default()
        };
        for event in lives(&shop, 200).iter().flat_map(|life| &life.events) {
            assert!(event.amount.is_none_or(|amount| amount.0 >= 1));
            assert!(event.discount.is_none_or(|discount| discount.0 >= 1));
            assert!(event.item.is_none_or(|item| item < 10 && Some(item % 4) == event.category));
            assert!(event.rating.is_none_or(|stars| (1..=5).contains(&stars)));
            assert_eq!(event.rating.is_some(), event.kind == EventKind::Rating);
            assert_eq!(event.amount.is_some(), event.order.is_some() && event.rating.is_none());
        }
    }

    #[test]
    fn the_mean_spend_told_is_the_mean_paid() {
        let shop = Shop { mean_orders: Some(20.0), spend_shape: 6.0, ..Shop::default() };
        let shop = shop.settle().unwrap().only_purchases();
        let lives = lives(&shop, 1_000);
        let orders =
            || lives.iter().flat_map(|life| purchases(life).into_iter().map(move |e| (life, e)));
        let paid = mean(orders().map(|(_, event)| event.amount.unwrap().0 as f64 / 100.0));
        let told = mean(orders().map(|(life, _)| life.truth.mean_spend));
        assert!((paid / told - 1.0).abs() < 0.05, "{paid} against {told}");
    }
}
