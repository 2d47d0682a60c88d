//! Running the programs of the object without an interface (BPF_PROG_TEST_RUN): tests, benchmarks, floods.

use std::{os::fd::AsFd, path::Path};

use super::{Kernel, KernelError, TestRunResult, sys};

/// A program of the object to test-run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestProgram {
    /// The one that is attached.
    Gateway,
    /// Nothing: the baseline.
    Empty,
    /// A bare drop.
    Drop,
    /// Only the generator of random IPv4 sources.
    RandomSource,
    /// The whole program behind that generator.
    Flood,
}

impl TestProgram {
    const fn symbol(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Empty => "bench_empty",
            Self::Drop => "bench_drop",
            Self::RandomSource => "bench_random",
            Self::Flood => "bench_flood",
        }
    }
}

impl Kernel {
    /// Runs the program on a packet without any interface, `repeat` times.
    ///
    /// # Errors
    /// When the program does not load or the kernel refuses the packet (under 14 bytes, over a page).
    pub fn test_run(&self, packet: &[u8], repeat: u32) -> Result<TestRunResult, KernelError> {
        self.test_run_of(TestProgram::Gateway, packet, repeat)
    }

    /// As [`test_run`](Self::test_run), with another program of the object.
    ///
    /// # Errors
    /// As there.
    pub fn test_run_of(
        &self,
        program: TestProgram,
        packet: &[u8],
        repeat: u32,
    ) -> Result<TestRunResult, KernelError> {
        let program = self.state().loaded.named(program.symbol())?;
        sys::test_run(program.as_fd(), packet, repeat, None)
            .map_err(|error| KernelError::from_io("running the program on a test packet", error))
    }

    /// Pins a program of the object, for others to put on an interface.
    ///
    /// # Errors
    /// When the program does not load, or the path is not on a BPF file system.
    pub fn pin(&self, program: TestProgram, path: &Path) -> Result<(), KernelError> {
        let program = self.state().loaded.named(program.symbol())?;
        sys::pin(program.as_fd(), path)
            .map_err(|error| KernelError::from_io(format!("pinning {}", path.display()), error))
    }

    /// Sends an untagged IPv4 TCP packet `count` times out of an interface, each time from a random source: a flood for
    /// tests, at the rate the machine has (Linux 5.18 and later; the other end of a veth pair must have a program).
    ///
    /// # Errors
    /// When the kernel does not offer live frames, or there is no such interface in this network namespace.
    pub fn flood(&self, interface: &str, packet: &[u8], count: u32) -> Result<(), KernelError> {
        let index = sys::interface_index(interface)
            .ok_or_else(|| KernelError::NoInterface { name: interface.to_owned() })?;
        let program = self.state().loaded.named("bench_send")?;
        sys::test_run(program.as_fd(), packet, count, Some(index))
            .map(drop)
            .map_err(|error| KernelError::from_io(format!("sending live frames on {interface}"), error))
    }
}
