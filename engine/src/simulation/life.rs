//! One customer's life in a shop, from the first purchase to the end of the log.

use super::Shop;
use super::pace::{MEAN_YEAR_DAYS, Pace};
use crate::domain::Draws;
use crate::domain::{Day, EventKind, Money, Seed, Timestamp};

const SECONDS_PER_DAY: f64 = 86_400.0;
const MINUTES_PER_DAY: f64 = 1_440.0;
const MS_PER_SECOND: i64 = 1_000;
const MS_PER_DAY: i64 = 86_400_000;

/// Minor units of one major unit.
const MINOR_PER_MAJOR: f64 = 100.0;
/// The highest list price, in minor units: rare draws of a wild shop end here, and sums stay exact.
const MOST_MINOR: f64 = 1e11;

/// Mean days from an order to its refund and to its rating.
const REFUND_DELAY_DAYS: f64 = 9.0;
const RATING_DELAY_DAYS: f64 = 7.0;
/// Mean minutes from the start of a visit to its cart.
const CART_DELAY_MINUTES: f64 = 4.0;
/// The share of refunds that give everything back.
const FULL_REFUNDS: f64 = 0.7;
/// The share of ratings with at most 1, 2, 3 and 4 stars: many fives, some ones, little between,
/// as Hu, Zhang & Pavlou (2009), "Overcoming the J-shaped Distribution of Product Reviews",
/// *Communications of the ACM* 52(10), found them.
const STARS: [f64; 4] = [0.08, 0.13, 0.22, 0.45];
/// How many stars a refunded order costs.
const REFUND_STARS: u8 = 2;

/// What was drawn for a customer, which no log tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// Purchases per day while alive, before seasons and campaigns.
    pub lambda: f64,
    /// The probability of staying away for good after a repeat purchase.
    pub p: f64,
    /// The day (UTC) of the purchase after which the customer stayed away for good; `None` for who
    /// was alive when the log ended.
    pub alive_until: Option<Day>,
    /// The mean amount paid for an order, after discounts and before refunds, in major currency
    /// units.
    pub mean_spend: f64,
}

/// One event of a simulated customer. Amounts are in minor units with two digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimulatedEvent {
    /// The index of the customer.
    pub customer: u64,
    /// The running number of the event within the customer's life, from 0.
    pub number: u64,
    /// When, in whole seconds.
    pub at: Timestamp,
    /// What happened. Logins, tickets and referrals are not simulated.
    pub kind: EventKind,
    /// The running number of the order within the customer's life, from 0: of a purchase, and of
    /// the refund or the rating of one.
    pub order: Option<u64>,
    /// What was paid, or given back. Neither is negative.
    pub amount: Option<Money>,
    /// In whole units.
    pub quantity: Option<i64>,
    /// What was taken off the list price; `amount` is without it.
    pub discount: Option<Money>,
    /// One of the shop's items, from 0.
    pub item: Option<u32>,
    /// The item's category, from 0.
    pub category: Option<u32>,
    /// One of the shop's channels, from 0.
    pub channel: Option<u8>,
    /// Stars, 1 to 5.
    pub rating: Option<u8>,
}

/// A customer's events in time order, and what they were drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Life {
    /// What no log tells.
    pub truth: Truth,
    /// What the log tells. The first is the first purchase.
    pub events: Vec<SimulatedEvent>,
}

/// The life of the customer with this index. It depends on the shop, the seed and the index alone,
/// so customers may be drawn in any order and on any number of threads.
///
/// The shop is one that [`Shop::check`] takes. One with `mean_orders` is settled anew for each
/// customer; [`Shop::settle`] does it once for all.
pub fn customer(shop: &Shop, seed: Seed, index: u64) -> Life {
    let mut person = Person::new(shop, seed, index);
    let first = person.draws.unit() * shop.acquisition_days();
    let contacts = person.contacts(first);
    let pace = Pace::new(shop, &contacts);

    // Purchases come before all that follows from them, so that leaving the latter out of a shop
    // leaves the former as they are.
    let (orders, last) = person.orders(&pace, first);
    let truth = Truth {
        lambda: person.lambda,
        p: person.p,
        alive_until: last.map(|at| shop.start.plus(at as i32)),
        mean_spend: person.list_price * (1.0 - shop.discount_probability * shop.discount_depth),
    };
    let mut events: Vec<SimulatedEvent> = orders.iter().map(|(_, order)| *order).collect();
    events.extend(contacts.iter().map(|&at| person.event(EventKind::Campaign, at)));
    for (at, order) in orders {
        person.follow(at, order, &mut events);
    }
    person.browse(&pace, first, last.unwrap_or(person.end), &mut events);

    // Stable: what happened in one second stays in the order in which it came about.
    events.sort_by_key(|event| event.at);
    for (number, event) in (0..).zip(&mut events) {
        event.number = number;
    }
    Life { truth, events }
}

/// A customer while events are drawn. Instants are in days since the start of the span.
struct Person<'a> {
    shop: &'a Shop,
    index: u64,
    draws: Draws,
    lambda: f64,
    p: f64,
    /// The mean list price of an order, in major units.
    list_price: f64,
    category: u32,
    channel: u8,
    /// The end of the span.
    end: f64,
}

impl<'a> Person<'a> {
    fn new(shop: &'a Shop, seed: Seed, index: u64) -> Person<'a> {
        let mut draws = Draws::new(seed.derive("simulated customer", index));
        let lambda = draws.gamma(shop.r) / shop.alpha_in_force();
        let p = if shop.a == 0.0 { 0.0 } else { draws.beta(shop.a, shop.b) };
        // An inverse gamma with the mean that was asked for.
        let list_price = shop.spend_mean * (shop.spend_shape - 1.0) / draws.gamma(shop.spend_shape);
        let category = draws.below(shop.categories);
        let channel = any_channel(&mut draws, shop);
        let end = f64::from(shop.days);
        Person { shop, index, draws, lambda, p, list_price, category, channel, end }
    }

    /// When campaigns reach the customer.
    fn contacts(&mut self, first: f64) -> Vec<f64> {
        let rate = self.shop.contacts_per_year / MEAN_YEAR_DAYS;
        let mut contacts = Vec::new();
        let mut at = first + self.draws.exponential() / rate;
        while at < self.end {
            contacts.push(at);
            at += self.draws.exponential() / rate;
        }
        contacts
    }

    /// All orders with their instants, and the instant of the last where the customer stayed away
    /// for good after it. As in the BG/NBD, nobody leaves after the first.
    fn orders(&mut self, pace: &Pace<'_>, first: f64) -> (Vec<(f64, SimulatedEvent)>, Option<f64>) {
        let mut orders = vec![(first, self.order(first, 0))];
        let mut at = first;
        for number in 1.. {
            match pace.next(&mut self.draws, self.lambda, at, self.end) {
                Some(next) => at = next,
                None => break,
            }
            orders.push((at, self.order(at, number)));
            if self.draws.chance(self.p) {
                return (orders, Some(at));
            }
        }
        (orders, None)
    }

    fn order(&mut self, at: f64, number: u64) -> SimulatedEvent {
        let (item, category) = self.item();
        let list = self.draws.lognormal(self.list_price, self.shop.spend_sigma);
        let list = (list * MINOR_PER_MAJOR).round().clamp(1.0, MOST_MINOR);
        let mut discount = 0.0;
        if self.draws.chance(self.shop.discount_probability) {
            let depth = self.shop.discount_depth * (0.5 + self.draws.unit());
            // Something is left to pay.
            discount = (list * depth).round().min(list - 1.0);
        }
        let quantity = 1 + i64::from(self.draws.poisson(self.shop.extra_units));
        SimulatedEvent {
            order: Some(number),
            amount: Some(Money((list - discount) as i64)),
            quantity: Some(quantity),
            discount: (discount > 0.0).then_some(Money(discount as i64)),
            item: Some(item),
            category: Some(category),
            ..self.event(EventKind::Purchase, at)
        }
    }

    /// The refund and the rating of an order, where there are any within the span.
    fn follow(&mut self, at: f64, order: SimulatedEvent, events: &mut Vec<SimulatedEvent>) {
        let mut refunded = false;
        if self.draws.chance(self.shop.refund_probability) {
            let back = at + REFUND_DELAY_DAYS * self.draws.exponential();
            let refund = self.refund(back, order);
            refunded = back < self.end;
            events.extend(refunded.then_some(refund));
        }
        if self.draws.chance(self.shop.rating_probability) {
            let told = at + RATING_DELAY_DAYS * self.draws.exponential();
            let share = self.draws.unit();
            let stars = 1 + STARS.iter().map(|&most| u8::from(share >= most)).sum::<u8>();
            let stars = if refunded { stars.saturating_sub(REFUND_STARS).max(1) } else { stars };
            let rating = SimulatedEvent {
                kind: EventKind::Rating,
                at: self.instant(told),
                amount: None,
                quantity: None,
                discount: None,
                rating: Some(stars),
                ..order
            };
            events.extend((told < self.end).then_some(rating));
        }
    }

    /// All of an order, with its goods, or a part of the money.
    fn refund(&mut self, at: f64, order: SimulatedEvent) -> SimulatedEvent {
        let paid = order.amount.unwrap_or_default().0;
        let full = self.draws.chance(FULL_REFUNDS);
        let part = (paid as f64 * self.draws.unit()).round() as i64;
        SimulatedEvent {
            kind: EventKind::Refund,
            at: self.instant(at),
            amount: Some(Money(if full { paid } else { part.max(1).min(paid) })),
            quantity: order.quantity.filter(|_| full),
            discount: None,
            ..order
        }
    }

    /// Visits without a purchase, some with a cart, while the customer is alive.
    fn browse(&mut self, pace: &Pace<'_>, first: f64, last: f64, events: &mut Vec<SimulatedEvent>) {
        let rate = self.lambda * self.shop.visits_per_purchase;
        let mut at = first;
        while let Some(next) = pace.next(&mut self.draws, rate, at, last) {
            at = next;
            let visit = self.event(EventKind::Visit, at);
            events.push(visit);
            if !self.draws.chance(self.shop.cart_share) {
                continue;
            }
            let filled = at + CART_DELAY_MINUTES * self.draws.exponential() / MINUTES_PER_DAY;
            let (item, category) = self.item();
            let cart = SimulatedEvent {
                kind: EventKind::Cart,
                at: self.instant(filled),
                item: Some(item),
                category: Some(category),
                ..visit
            };
            events.extend((filled < last).then_some(cart));
        }
    }

    /// An event of which only the kind, the instant and the channel are known.
    fn event(&mut self, kind: EventKind, at: f64) -> SimulatedEvent {
        let loyal = self.draws.chance(self.shop.loyalty);
        let channel = if loyal { self.channel } else { any_channel(&mut self.draws, self.shop) };
        SimulatedEvent {
            customer: self.index,
            number: 0,
            at: self.instant(at),
            kind,
            order: None,
            amount: None,
            quantity: None,
            discount: None,
            item: None,
            category: None,
            channel: Some(channel),
            rating: None,
        }
    }

    /// An item and its category. Every category has its bestsellers.
    fn item(&mut self) -> (u32, u32) {
        let (items, categories) = (self.shop.items, self.shop.categories);
        let loyal = self.draws.chance(self.shop.loyalty);
        let category = if loyal { self.category } else { self.draws.below(categories) };
        // Items c, c + categories, c + 2 categories... are those of category c.
        let n_items = items.saturating_sub(category).div_ceil(categories.max(1));
        let popularity = self.draws.unit();
        let rank = (popularity * popularity * f64::from(n_items)) as u32;
        let rank = rank.min(n_items.saturating_sub(1));
        (category.saturating_add(rank.saturating_mul(categories)), category)
    }

    /// The whole second of an instant, within the span.
    fn instant(&self, at: f64) -> Timestamp {
        let last = i64::from(self.shop.days) * MS_PER_DAY - MS_PER_SECOND;
        let since = ((at * SECONDS_PER_DAY).floor() as i64).saturating_mul(MS_PER_SECOND);
        Timestamp(i64::from(self.shop.start.0) * MS_PER_DAY + since.clamp(0, last))
    }
}

fn any_channel(draws: &mut Draws, shop: &Shop) -> u8 {
    draws.below(u32::from(shop.channels)) as u8
}
