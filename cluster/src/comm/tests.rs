use super::*;

fn on_ranks<T: Send + std::fmt::Debug>(n: usize, body: impl Fn(Comm) -> Result<T, Error> + Sync) -> Vec<T> {
    run_threads(n, body).into_iter().map(|r| r.expect("no rank fails")).collect()
}

#[test]
fn collectives_agree_with_their_definition_on_1_2_3_5_ranks() {
    for n in [1, 2, 3, 5] {
        let results = on_ranks(n, |comm| {
            let me = comm.rank() as u64;
            let gathered = comm.all_gather(&vec![me; comm.rank()])?; // rank 0 sends nothing
            for (r, part) in gathered.iter().enumerate() {
                assert_eq!(part, &vec![r as u64; r]);
            }
            let parts: Vec<Vec<u32>> = (0..n as u32).map(|to| vec![me as u32 * 10 + to; to as usize]).collect();
            let got = comm.all_to_all(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
            for (from, part) in got.iter().enumerate() {
                assert_eq!(part, &vec![from as u32 * 10 + me as u32; me as usize]);
            }
            let word = comm.broadcast(n - 1, format!("from {me}").as_bytes())?;
            assert_eq!(word, format!("from {}", n - 1).into_bytes());
            let (next, previous) = ((comm.rank() + 1) % n, (comm.rank() + n - 1) % n);
            comm.send(next, &[me])?;
            let mut from = [0u64];
            comm.recv_into(previous, &mut from)?;
            assert_eq!(from[0] as usize, previous);
            comm.barrier()?;
            Ok(comm.all_max(me)?)
        });
        assert_eq!(results, vec![n as u64 - 1; n]);
    }
}

/// Exchanges of different lengths (also none), one inside the other on other communicators, and the bytes counted.
#[test]
fn an_exchange_runs_beside_other_work() {
    for n in [1, 2, 3, 5] {
        let bytes = on_ranks(n, |comm| {
            let me = comm.rank();
            let other = comm.split(0, n - me)?;
            let length = |from: usize, to: usize| (from + 2 * to) % 4;
            let parts: Vec<Vec<f64>> = (0..n).map(|to| vec![(10 * me + to) as f64; length(me, to)]).collect();
            let mut got: Vec<Vec<f64>> = (0..n).map(|from| vec![0.0; length(from, me)]).collect();
            let mut sum = [me as u64];
            let before = comm.traffic().bytes;
            comm.exchange(
                &parts.iter().map(Vec::as_slice).collect::<Vec<_>>(),
                &mut got.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(),
                || other.all_sum(&mut sum).expect("nobody is gone"),
            )?;
            for (from, part) in got.iter().enumerate() {
                assert_eq!(part, &vec![(10 * from + me) as f64; length(from, me)]);
            }
            assert_eq!(sum[0] as usize, n * (n - 1) / 2);
            let due: usize = (0..n).filter(|to| *to != me).map(|to| 8 * length(me, to) + 8).sum();
            assert_eq!((comm.traffic().bytes - before) as usize, due);
            Ok(())
        });
        assert_eq!(bytes.len(), n);
    }
}

#[test]
fn a_shared_list_sends_a_piece_to_each_and_all_pass_theirs_on() {
    for n in [1, 2, 3, 5] {
        let sent = on_ranks(n, |comm| {
            let list = |r: usize| vec![r as f64; if r < 2 { 30 * (r + 1) } else { 0 }];
            let lists = comm.share(&list(comm.rank()))?;
            assert_eq!(lists, (0..n).map(list).collect::<Vec<_>>());
            Ok(comm.traffic().bytes as usize)
        });
        if n == 5 {
            let rest = 8 * 4;
            assert_eq!(sent[1], 8 * 4 * (60 / 5 + 90 / 5) + rest);
            assert_eq!(sent[4], 8 * 4 * (90 / 5) + rest);
        }
    }
}

#[test]
fn a_part_of_another_length_is_refused() {
    let results = run_threads(2, |comm| {
        let (one, mut got) = ([1.0f64; 3], [0.0; 3]);
        let me = comm.rank();
        let mut into: [&mut [f64]; 2] = [&mut [], &mut []];
        into[1 - me] = &mut got[..3 - me];
        let mut parts: [&[f64]; 2] = [&[], &[]];
        parts[1 - me] = &one;
        Ok(comm.exchange(&parts, &mut into, || ())?)
    });
    assert!(results[1].as_ref().is_err_and(|e| e.to_string().contains("24 bytes where 16 were due")));
}

#[test]
fn sums_are_equal_on_all_ranks_for_short_and_long_vectors() {
    for (n, length) in [(2, 3), (3, 5000), (5, 1001)] {
        let sums = on_ranks(n, |comm| {
            let mut v: Vec<f64> = (0..length).map(|i| (i * (comm.rank() + 1)) as f64).collect();
            comm.all_sum(&mut v)?;
            Ok(v)
        });
        let factor: usize = (1..=n).sum();
        for sum in &sums {
            assert_eq!(sum, &(0..length).map(|i| (i * factor) as f64).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_block_sum_has_the_same_bits_on_any_number_of_ranks() {
    let values: Vec<f64> = (0..37).map(|i| 1.0 / (1.0 + f64::from(i))).collect();
    let expected: f64 = values.iter().sum();
    for n in [1, 2, 3, 5] {
        let sums = on_ranks(n, |comm| Ok(comm.sum_blocks(&values[comm.block(values.len())])?));
        assert!(sums.iter().all(|s| s.to_bits() == expected.to_bits()));
    }
}

#[test]
fn a_long_sum_sends_two_n_p_minus_1_over_p() {
    let traffic = on_ranks(4, |comm| {
        comm.all_sum(&mut vec![1f32; 8000])?;
        Ok(comm.traffic().bytes)
    });
    assert_eq!(traffic, vec![2 * 8000 * 4 * 3 / 4; 4]);
}

#[test]
fn split_groups_talk_among_themselves() {
    let sums = on_ranks(5, |comm| {
        let half = comm.split(comm.rank() % 2, comm.rank())?;
        let again = half.split(0, half.size() - half.rank())?; // reversed order
        assert_eq!(again.rank(), half.size() - 1 - half.rank());
        let mut sum = [comm.rank() as u64];
        half.all_sum(&mut sum)?;
        Ok(sum[0])
    });
    assert_eq!(sums, [6, 4, 6, 4, 6]);
}

#[test]
fn one_failing_rank_fails_all_and_is_named() {
    for results in [
        run_threads(3, |comm| {
            let mine = if comm.rank() == 2 { Err(Error::MpiUnusable) } else { Ok(()) };
            comm.agree(mine)
        }),
        run_threads(3, |comm| {
            if comm.rank() == 1 {
                panic!("boom");
            }
            comm.barrier()?; // nobody hangs here
            Ok(())
        }),
    ] {
        assert!(results.iter().all(Result::is_err));
        let text = results[0].as_ref().expect_err("rank 0 hears of it").to_string();
        assert!(
            text.contains("rank 2: MPI is already") || text.contains("rank 1 failed") && text.contains("boom"),
            "{text}"
        );
    }
}
