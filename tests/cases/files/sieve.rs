//! Prime numbers, by the sieve of Eratosthenes.

/// The primes below `limit`, in order.
pub fn primes(limit: usize) -> Vec<usize> {
    let mut composite = vec![false; limit];
    let mut primes = Vec::new();
    for number in 2..limit {
        if composite[number] {
            continue;
        }
        primes.push(number);
        for multiple in (number * number..limit).step_by(number) {
            composite[multiple] = true;
        }
    }
    primes
}

fn main() {
    let primes = primes(100);
    println!("{} primes: {primes:?}", primes.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_primes() {
        assert_eq!(primes(12), [2, 3, 5, 7, 11]);
    }
}
