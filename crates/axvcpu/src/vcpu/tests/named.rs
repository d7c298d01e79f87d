//! States that the caller names, and accessors that change none.

use super::*;

/// The operations whose states the caller names, from every state to every state, in every state.
#[test]
fn named_states_are_kept_to() {
    type Make = fn(&VCpu, VCpuState, VCpuState, AxResult<u8>, &mut u32) -> Result<u8, VCpuError>;
    let operations: [(&str, Make); 3] = [
        ("with_state_transition", |vcpu, from, to, result, called| {
            vcpu.with_state_transition(from, to, || {
                *called += 1;
                result
            })
        }),
        ("manipulate_arch_vcpu", |vcpu, from, to, result, called| {
            vcpu.manipulate_arch_vcpu(from, to, |script| {
                *called += 1;
                script.call("inject_interrupt")?;
                result
            })
        }),
        ("transition_state", |vcpu, from, to, _, called| {
            let answer = vcpu.transition_state(from, to).map(|()| 5);
            *called += u32::from(answer.is_ok());
            answer
        }),
    ];
    let failure: AxError = AxErrorKind::NoMemory.into();
    for (operation, make) in operations {
        for (found, expected, to) in triples() {
            for result in [Ok(5), Err(failure)] {
                let vcpu = vcpu_in(found, None);
                let mut called = 0;
                let answer = make(&vcpu, expected, to, result, &mut called);
                let is_due = found == expected && found != Invalid;
                let (wanted, state) = match result {
                    _ if !is_due => (
                        Err(VCpuError::WrongState {
                            operation,
                            expected,
                            found,
                        }),
                        Invalid,
                    ),
                    Err(error) if operation != "transition_state" => (
                        Err(VCpuError::Failed {
                            operation,
                            from: expected,
                            to,
                            error,
                        }),
                        Invalid,
                    ),
                    Ok(_) | Err(_) => (Ok(5), to),
                };
                let case = format!("{operation} {expected} -> {to} in {found}");
                assert_eq!(answer, wanted, "{case}");
                assert_eq!(vcpu.state(), state, "{case}");
                assert_eq!(called, u32::from(is_due), "{case}");
            }
        }
    }
}

fn triples() -> impl Iterator<Item = (VCpuState, VCpuState, VCpuState)> {
    STATES.into_iter().flat_map(|a| {
        STATES
            .into_iter()
            .flat_map(move |b| STATES.into_iter().map(move |c| (a, b, c)))
    })
}

#[test]
fn the_accessors_move_nothing() {
    for state in STATES {
        let vcpu = vcpu_in(state, None);
        let answer = vcpu.with_arch(|script| script.call("finish_read"));
        if state == Ready {
            assert_eq!(answer, Ok(Ok(())));
            assert_eq!(calls(&vcpu), ["finish_read"]);
        } else {
            let error = VCpuError::WrongState {
                operation: "with_arch",
                expected: Ready,
                found: state,
            };
            assert_eq!(answer, Err(error));
            assert!(calls(&vcpu).is_empty());
        }
        assert_eq!(vcpu.state(), state);
        assert_eq!(vcpu.inspect(|script| script.pc()), Ok(0));
        assert_eq!(vcpu.state(), state);
    }
}
