"""`python -m benchmarks`: the delivery figures on Kafka."""

from benchmarks.delivery import main

if __name__ == "__main__":
    main()
