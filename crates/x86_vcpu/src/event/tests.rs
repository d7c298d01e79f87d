use super::*;

fn exception(vector: u8) -> Exception {
    Exception {
        vector,
        error_code: (vector != vector::DEBUG).then_some(u32::from(vector)),
    }
}

#[test]
fn two_exceptions_combine_as_the_manual_says() {
    let (benign, contributory, page) = (
        vector::DEBUG,
        vector::GENERAL_PROTECTION,
        vector::PAGE_FAULT,
    );
    let second_alone = |second| Combined::Exception(exception(second));
    let double = Combined::Exception(Exception::DOUBLE_FAULT);
    for (first, second, result) in [
        (benign, benign, second_alone(benign)),
        (benign, contributory, second_alone(contributory)),
        (benign, page, second_alone(page)),
        (contributory, benign, second_alone(benign)),
        (contributory, contributory, double),
        (contributory, page, second_alone(page)),
        (page, benign, second_alone(benign)),
        (page, contributory, double),
        (page, page, double),
        (vector::DOUBLE_FAULT, benign, second_alone(benign)),
        (vector::DOUBLE_FAULT, contributory, Combined::TripleFault),
        (vector::DOUBLE_FAULT, page, Combined::TripleFault),
        (vector::DIVIDE, vector::STACK, double),
        (vector::INVALID_TSS, vector::SEGMENT_NOT_PRESENT, double),
    ] {
        assert_eq!(
            combine(exception(first), exception(second)),
            result,
            "{first} {second}"
        );
    }
}

#[test]
fn what_was_interrupted_goes_in_again() {
    for event in [
        Event::Interrupt(0x30),
        Event::Nmi,
        Event::Exception(exception(14)),
    ] {
        let mut queue = EventQueue::default();
        queue.interrupted(event);
        assert!(queue.is_delivering() && !queue.is_empty());
        assert_eq!(queue.take_forced(), Some(event));
        assert!(queue.is_empty());
    }
    let mut queue = EventQueue::default();
    queue.interrupted(Event::Software);
    assert_eq!(queue.take_forced(), None);
}

#[test]
fn an_exception_goes_before_the_interrupt_whose_delivery_raised_it() {
    let mut queue = EventQueue::default();
    queue.interrupted(Event::Interrupt(0x30));
    assert_eq!(queue.raise(exception(14)), Raised::Queued);
    assert_eq!(queue.take_forced(), Some(Event::Exception(exception(14))));
    assert_eq!(queue.take_forced(), Some(Event::Interrupt(0x30)));
}

#[test]
fn exceptions_in_the_delivery_of_exceptions_come_to_a_shutdown() {
    let mut queue = EventQueue::default();
    queue.interrupted(Event::Exception(exception(14)));
    assert_eq!(queue.raise(exception(14)), Raised::Queued);
    let double = queue.take_forced().unwrap();
    assert_eq!(double, Event::Exception(Exception::DOUBLE_FAULT));
    queue.interrupted(double);
    assert_eq!(queue.raise(exception(13)), Raised::TripleFault);
}

#[test]
fn nmis_that_wait_are_one() {
    let mut queue = EventQueue::default();
    queue.post_nmi();
    queue.post_nmi();
    assert!(queue.has_nmi() && queue.take_forced().is_none());
    queue.take_nmi();
    assert!(queue.is_empty());
}
