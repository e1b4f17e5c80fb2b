//! Tests of the cloud's records.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;

fn request(name: &str) -> LaunchRequest {
    LaunchRequest {
        client_token: name.to_owned(),
        name: name.to_owned(),
        tags: [("fleet".to_owned(), "f".to_owned())].into(),
        region: String::new(),
        zone: String::new(),
        instance_type: "i".to_owned(),
        capacity: CapacityKind::OnDemand,
        gpus: 8,
        agent: None,
    }
}

fn launch(book: &mut Book, name: &str, now: i64) -> Result<InstanceView, ProviderError> {
    let id = ProviderInstanceId::new(format!("fake-{name}"));
    book.launch(request(name), id, true, 100, now)
}

fn with_machines(count: i64) -> Book {
    let mut book = Book::new();
    for number in 1..=count {
        launch(&mut book, &number.to_string(), number * SECOND).expect("a machine");
    }
    book
}

/// Every name of a listing, page by page; the faults strike the first page.
fn names(
    book: &Book,
    size: usize,
    faults: &ListingFaults,
    now: i64,
) -> Result<Vec<String>, ProviderError> {
    let mut names = Vec::new();
    let mut query = PageQuery {
        page_size: size,
        ..PageQuery::default()
    };
    let (mut faults, none) = (faults, ListingFaults::default());
    loop {
        let page = book.page(&query, faults, now)?;
        assert!(page.instances.len() <= size.max(1), "{page:?}");
        names.extend(page.instances.into_iter().map(|view| view.name));
        if page.next_page_token.is_empty() {
            return Ok(names);
        }
        query.page_token = page.next_page_token;
        faults = &none;
    }
}

proptest! {
    #[test]
    fn pages_of_any_size_show_each_machine_once(count in 0..30_i64, size in 1..12_usize) {
        let book = with_machines(count);
        let expected: Vec<_> = (1..=count).map(|number| number.to_string()).collect();
        let listed = names(&book, size, &ListingFaults::default(), 0);
        prop_assert_eq!(listed, Ok(expected.clone()));
        let missing = ListingFaults {
            partial: Some(PartialHow::Missing),
            ..ListingFaults::default()
        };
        let listed = names(&book, size, &missing, 0);
        prop_assert_eq!(listed, Ok(expected[..expected.len() / 2].to_vec()));
        let past = ListingFaults {
            stale: Some(Duration::from_secs(10)),
            ..ListingFaults::default()
        };
        let then: Vec<_> = (1..=count.min(7)).map(|number| number.to_string()).collect();
        prop_assert_eq!(names(&book, size, &past, 17 * SECOND), Ok(then));
    }

    #[test]
    fn any_page_token_is_read_or_refused(text in "[0-9.a-z-]{0,12}") {
        let query = PageQuery { page_token: text.clone(), ..PageQuery::default() };
        let page = with_machines(3).page(&query, &ListingFaults::default(), 0);
        if let Some(token) = PageToken::parse(&text) {
            prop_assert!(page.is_ok());
            prop_assert_eq!(PageToken::parse(&token.to_string()), Some(token));
        } else if !text.is_empty() {
            prop_assert!(page.is_err(), "{}", text);
        }
    }
}

fn sells(products: &str) -> Market {
    serde_json::from_str(&format!(r#"{{"products":{products}}}"#)).expect(products)
}

#[test]
fn a_cloud_with_a_market_sells_what_is_on_it_while_there_is_some() {
    let mut book = Book::new();
    assert_eq!(book.offers(), None);
    launch(&mut book, "0", 0).expect("everything is sold");
    let market = sells(
        r#"[{"region":"r1","instance_type":"i","price":"12.50","machines":1},
            {"region":"r1","zone":"a","instance_type":"j"},
            {"region":"r1","instance_type":"i","capacity":"spot","price":"3"}]"#,
    );
    book.sell(market.clone()).expect("sound");
    assert_eq!(book.market(), market);
    let mut buy = |name: &str, kind: &str, zone: &str, capacity| {
        let wanted = LaunchRequest {
            region: "r1".to_owned(),
            zone: zone.to_owned(),
            instance_type: kind.to_owned(),
            capacity,
            ..request(name)
        };
        let id = ProviderInstanceId::new(format!("fake-{name}"));
        let made = book.launch(wanted, id, true, 100, 0);
        made.map(drop).map_err(|error| error.kind)
    };
    let (firm, spot) = (CapacityKind::OnDemand, CapacityKind::Spot);
    for (name, kind, zone, capacity, expected) in [
        ("1", "i", "", firm, Ok(())),
        ("2", "i", "b", firm, Err(ProviderErrorKind::Capacity)),
        ("3", "i", "b", spot, Ok(())),
        ("4", "j", "a", firm, Ok(())),
        ("5", "j", "b", firm, Err(ProviderErrorKind::Configuration)),
        ("6", "k", "", firm, Err(ProviderErrorKind::Configuration)),
        ("7", "j", "a", spot, Err(ProviderErrorKind::Configuration)),
    ] {
        assert_eq!(buy(name, kind, zone, capacity), expected, "{name}");
    }
    let listed = |book: &Book| -> Vec<Option<bool>> {
        let offers = book.offers().expect("a list");
        offers.iter().map(|offer| offer.available).collect()
    };
    assert_eq!(listed(&book), [Some(false), Some(true), Some(true)]);
    book.terminate("fake-1", 1).expect("known");
    book.ended(&ProviderInstanceId::new("fake-1"), 2);
    assert_eq!(listed(&book), [Some(true); 3]);
    let file = serde_json::to_string(&book).expect("plain data");
    assert_eq!(serde_json::from_str::<Book>(&file).expect(&file), book);
}

#[test]
fn a_spot_machine_is_shown_to_go_and_goes() {
    let mut book = Book::new();
    let wanted = LaunchRequest {
        capacity: CapacityKind::Spot,
        ..request("s")
    };
    let id = ProviderInstanceId::new("fake-s");
    book.launch(wanted, id, true, 100, 0).expect("made");
    launch(&mut book, "d", 0).expect("made");
    let order = |book: &mut Book, name: &str| {
        let fault = format!(r#"{{"fault":"interrupt","instance":"{name}","notice_seconds":30}}"#);
        book.order(serde_json::from_str(&fault).expect("a fault"), SECOND)
    };
    let error = order(&mut book, "d").expect_err("it is rented on demand");
    assert_eq!(error.kind, ProviderErrorKind::Configuration);
    order(&mut book, "s").expect("ordered");
    let seen = book.get("fake-s").expect("known");
    assert_eq!(seen.status, CloudStatus::Running);
    assert_eq!(seen.interruption_at, Some(31 * SECOND));
    assert!(book.interrupt(30 * SECOND));
    assert_eq!(
        book.get("fake-s").expect("known").status,
        CloudStatus::Running
    );
    assert!(!book.interrupt(31 * SECOND));
    assert_eq!(
        book.get("fake-s").expect("known").status,
        CloudStatus::Terminating
    );
    assert_eq!(book.orders, []);
}

#[test]
fn a_broken_listing_fails_after_its_first_page() {
    let faults = ListingFaults {
        partial: Some(PartialHow::Error),
        ..ListingFaults::default()
    };
    for count in [0, 1, 5] {
        let book = with_machines(count);
        let first = book
            .page(&PageQuery::default(), &faults, 0)
            .expect("a page");
        assert_eq!(first.instances.len() as i64, count / 2);
        let error = names(&book, 100, &faults, 0).expect_err("the second page fails");
        assert_eq!(error.kind, ProviderErrorKind::Transient);
    }
}

#[test]
fn a_stale_listing_shows_what_was() {
    let mut book = with_machines(3);
    book.terminate("fake-1", 10 * SECOND).expect("known");
    book.ended(&ProviderInstanceId::new("fake-1"), 12 * SECOND);
    let vanish = CloudFault::Vanish {
        instance: "2".to_owned(),
    };
    book.order(vanish, 11 * SECOND).expect("it runs");
    let shown = |seconds: i64| {
        let faults = ListingFaults {
            stale: Some(Duration::from_secs(20 - seconds as u64)),
            ..ListingFaults::default()
        };
        let page = book.page(&PageQuery::default(), &faults, 20 * SECOND);
        let views = page.expect("a page").instances.into_iter();
        let words = views.map(|view| format!("{} {}", view.name, view.status.word()));
        words.collect::<Vec<_>>().join(", ")
    };
    for (at, expected) in [
        (0, ""),
        (2, "1 running, 2 running"),
        (10, "1 terminating, 2 running, 3 running"),
        (11, "1 terminating, 3 running"),
        (12, "1 terminated, 3 running"),
    ] {
        assert_eq!(shown(at), expected, "as of second {at}");
    }
}

#[test]
fn tokens_and_names_are_unique_while_their_machine_is_known() {
    let mut book = with_machines(1);
    let first = book.get("fake-1").expect("known");
    assert_eq!(launch(&mut book, "1", SECOND), Ok(first.clone()));
    let id = || ProviderInstanceId::new("fake-x");
    let mut other = request("1");
    other.gpus = 4;
    let error = book
        .launch(other, id(), true, 100, SECOND)
        .expect_err("another machine");
    assert_eq!(error.kind, ProviderErrorKind::OutcomeUnknown, "{error}");
    let mut namesake = request("1");
    namesake.client_token = "2".to_owned();
    let error = book.launch(namesake.clone(), id(), true, 100, SECOND);
    let error = error.expect_err("the name is taken");
    assert_eq!(error.kind, ProviderErrorKind::OutcomeUnknown, "{error}");
    let error = book
        .launch(request("2"), id(), true, 1, SECOND)
        .expect_err("quota");
    assert_eq!(error.kind, ProviderErrorKind::Quota, "{error}");

    book.terminate("fake-1", 2 * SECOND).expect("known");
    book.ended(&ProviderInstanceId::new("fake-1"), 3 * SECOND);
    let again = launch(&mut book, "1", 4 * SECOND).expect("the token's machine");
    assert_eq!(
        (again.id, again.status),
        (first.id, CloudStatus::Terminated)
    );
    book.launch(namesake, id(), true, 1, 4 * SECOND)
        .expect("name and quota are free again");
    assert_eq!(book.purge(3 * SECOND + KEEP_ENDED_MICROS - 1), []);
    let gone = book.purge(3 * SECOND + KEEP_ENDED_MICROS);
    assert_eq!(gone, [ProviderInstanceId::new("fake-1")]);
}

#[test]
fn the_file_holds_everything() {
    let mut book = with_machines(2);
    for fault in [
        r#"{"fault":"hang","instance":"1"}"#,
        r#"{"fault":"show","instance":"2","status":"impaired"}"#,
        r#"{"fault":"error","error":"rate_limit","operation":"list","retry_after_seconds":3}"#,
        r#"{"fault":"latency","milliseconds":9,"when":"after","count":2}"#,
        r#"{"fault":"partial_listing","how":"error"}"#,
    ] {
        let fault = serde_json::from_str(fault).expect(fault);
        book.order(fault, SECOND).expect("ordered");
    }
    let file = serde_json::to_string(&book).expect("plain data");
    assert_eq!(serde_json::from_str::<Book>(&file).expect(&file), book);
    assert!(
        book.hangs(&ProviderInstanceId::new("fake-1")),
        "the name became the id"
    );
    let shown = book.get("fake-2").expect("known").status;
    assert_eq!(shown, CloudStatus::Impaired);
    assert!(book.clear(Some(2)) && !book.clear(Some(2)));
    let shown = book.get("fake-2").expect("known").status;
    assert_eq!(shown, CloudStatus::Running);
}
