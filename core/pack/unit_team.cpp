#include "core/pack/unit_team.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

namespace moira {

namespace {

constexpr auto look_interval = std::chrono::milliseconds(20); // of progress and of looking for Ctrl-C
constexpr auto commit_interval = std::chrono::seconds(2);      // a crash costs at most that much more than commit_bytes

} // namespace

std::optional<unit_place> unit_team::take() {
    const std::lock_guard lock(mutex_);
    if (failure_ || next_ == places_.size())
        return std::nullopt;
    return places_[next_++];
}

void unit_team::stop(error why) {
    stopped_ = true;
    if (!failure_ || failure_->code == errc::cancelled) // threads that were stopped say so too
        failure_ = std::move(why);
}

void unit_team::finish(const unit_place& place, result<written_unit> written) {
    const std::lock_guard lock(mutex_);
    if (!written)
        return stop(std::move(written.error()));
    finished_.push_back({place, *written});
    finished_bytes_ += plan_.shards[place.shard].units[place.unit].bytes;
    changed_.notify_all();
}

void unit_team::work() {
    unit_writer writer(source_, plan_, written_bytes_, stopped_);
    while (const auto place = take()) {
        const auto& shard = plan_.shards[place->shard];
        try {
            finish(*place, writer.write(shard, shard.units[place->unit], files_[place->shard]));
        } catch (const std::bad_alloc&) {
            finish(*place, fail(errc::out_of_memory, "no memory for an expert of " + shard.file_name));
        }
    }
    const std::lock_guard lock(mutex_);
    --running_;
    changed_.notify_all();
}

/// First the bytes, then the journal: it never names what a crash can still take.
result<void> unit_team::commit(std::span<const finished_unit> units, const supervision& watch) const {
    std::set<std::uint32_t> shards;
    for (const auto& unit : units)
        shards.insert(unit.place.shard);
    for (const auto shard : shards)
        if (const int failure = files_[shard].flush(); failure != 0)
            return fail(errc::io_error,
                        plan_.shards[shard].file_name + " cannot be written: " + std::strerror(failure));
    return watch.commit(units);
}

result<void> unit_team::run(const supervision& watch) {
    std::vector<std::jthread> team;
    std::unique_lock lock(mutex_);
    try {
        for (; running_ < std::max(1U, watch.threads); ++running_)
            team.emplace_back([this] { work(); });
    } catch (const std::system_error& refused) {
        if (team.empty())
            return fail(errc::internal, std::string("no thread for packing: ") + refused.what());
    }
    auto committed = std::chrono::steady_clock::now();
    for (bool ended = false; !ended;) {
        changed_.wait_for(lock, look_interval, [&] { return running_ == 0 || finished_bytes_ >= watch.commit_bytes; });
        ended = running_ == 0;
        const bool due = ended || finished_bytes_ >= watch.commit_bytes ||
                         std::chrono::steady_clock::now() - committed >= commit_interval;
        const auto units = due ? std::exchange(finished_, {}) : std::vector<finished_unit>();
        if (due)
            finished_bytes_ = 0;
        lock.unlock();
        if (watch.progress)
            watch.progress(written_bytes_);
        const bool interrupted = !ended && watch.interrupted && watch.interrupted();
        stopped_ = stopped_ || interrupted; // at once: what follows can wait for the disk
        result<void> kept;
        if (!units.empty())
            kept = commit(units, watch);
        if (due)
            committed = std::chrono::steady_clock::now();
        lock.lock();
        if (!kept)
            stop(std::move(kept.error()));
        else if (interrupted)
            stop({errc::cancelled, "interrupted"});
    }
    if (failure_)
        return tl::unexpected(*failure_);
    return {};
}

} // namespace moira
