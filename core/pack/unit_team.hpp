#pragma once

#include "core/pack/unit_writer.hpp"

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace moira {

/// A unit of a plan: shard, unit of the shard, and number over all shards.
struct unit_place {
    std::uint32_t shard = 0, unit = 0;
    std::uint64_t number = 0;
};

struct finished_unit {
    unit_place place;
    written_unit written;
};

/// Threads that write units, each taking the next one, and a caller that puts finished ones on the disk.
class unit_team {
public:
    struct supervision {
        std::uint32_t threads = 1;
        std::uint64_t commit_bytes = 0;
        /// All on the calling thread. `commit` gets units whose bytes are on the disk.
        std::function<result<void>(std::span<const finished_unit>)> commit;
        std::function<void(std::uint64_t)> progress; ///< bytes written
        std::function<bool()> interrupted;
    };

    /// Borrows all of them; `files` has one entry per shard.
    unit_team(const checkpoint& source, const pack_plan& plan, const std::vector<output_file>& files,
              std::vector<unit_place> places)
        : source_(source), plan_(plan), files_(files), places_(std::move(places)) {}

    std::span<const unit_place> places() const noexcept { return places_; }

    /// Returns when all units are done, or none runs any more after a failure or an interruption; what was finished
    /// then is committed too. Errors: the first one; cancelled.
    result<void> run(const supervision& watch);

private:
    void work();
    std::optional<unit_place> take();
    void finish(const unit_place& place, result<written_unit> written);
    void stop(error why);
    result<void> commit(std::span<const finished_unit> units, const supervision& watch) const;

    const checkpoint& source_;
    const pack_plan& plan_;
    const std::vector<output_file>& files_;
    const std::vector<unit_place> places_;
    std::atomic<std::uint64_t> written_bytes_{0};
    std::atomic<bool> stopped_{false};
    std::mutex mutex_; ///< guards all below
    std::condition_variable changed_;
    std::size_t next_ = 0;
    std::uint32_t running_ = 0;
    std::vector<finished_unit> finished_;
    std::uint64_t finished_bytes_ = 0; ///< of finished_
    std::optional<error> failure_;
};

} // namespace moira
