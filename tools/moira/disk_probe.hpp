#pragma once

#include "core/base/error.hpp"
#include "core/experts/huge_page_buffer.hpp"
#include "core/model/checkpoint.hpp"

#include <chrono>
#include <cstdint>
#include <random>
#include <vector>

namespace moira {

/// How fast this machine reads a model's own experts, past the page cache where the file system can, in the order in
/// which nobody can foresee them: several reads in flight, each as large as one expert, at random places of the files.
class disk_probe {
public:
    /// More reads in flight only add latency.
    static constexpr std::uint32_t reads_in_flight = 3;

    /// `bytes_each`: of one read. Errors: io_error, out_of_memory, invalid_argument (no file is that large).
    static result<disk_probe> create(const checkpoint& model, std::uint64_t bytes_each);

    disk_probe(disk_probe&& other) noexcept;
    disk_probe& operator=(disk_probe&& other) noexcept;
    ~disk_probe();

    /// False: some file is read through the page cache, and the probe speaks of memory as much as of the disk.
    bool direct() const noexcept { return direct_; }

    /// Gigabytes (10^9) per second over about `duration`. Errors: io_error.
    result<double> measure(std::chrono::milliseconds duration);

private:
    struct file {
        int descriptor = -1; // owned
        std::uint64_t bytes = 0;
    };

    disk_probe() = default;

    std::vector<file> files_;
    std::vector<huge_page_buffer> buffers_; // one for each read in flight, touched
    std::uint64_t bytes_each_ = 0;
    bool direct_ = true;
    std::mt19937_64 places_{1};
};

} // namespace moira
