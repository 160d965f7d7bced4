// Blocks, threads, schedules and barriers of one launch.
#include "kernels/cuda/host/executor.hpp"
#include "kernels/cuda/host/block_run.hpp"
#include "kernels/cuda/host/machine.hpp"

#include <algorithm>
#include <cstring>
#include <exception>
#include <numeric>

namespace moira {

simt_index threadIdx;
simt_index blockIdx;
simt_index blockDim;
simt_index gridDim;

namespace {

block_run* current_run = nullptr;

constexpr size_t findings_max = 16;
constexpr uint32_t threads_max = 1024; // of one block, on every GPU

void fiber_body() {
    current_run->call_body();
    current_run->finish_thread();
}

} // namespace

block_run* simt_current() {
    return current_run;
}

block_run::block_run(const launch_shape& shape, const simt_config& config, simt_memory& memory,
                     void (*body)(const void*), const void* context)
    : shape_(shape), config_(config), memory_(memory), body_(body), context_(context), random_(config.seed),
      fibers_(simt_machine::of_process().fibers), threads_(shape.threads), warps_((shape.threads + 31) / 32),
      order_(shape.threads), arena_(simt_machine::of_process().arena),
      shared_shadow_(simt_machine::of_process().shared_shadow) {
    while (fibers_.size() < shape.threads)
        fibers_.push_back(std::make_unique<simt_fiber>());
}

simt_report block_run::run() {
    current_run = this;
    launch_epoch_ = ++simt_machine::of_process().epoch;
    std::vector<uint32_t> blocks(size_t{shape_.grid_x} * shape_.grid_y * shape_.grid_z);
    std::iota(blocks.begin(), blocks.end(), 0u);
    if (config_.shuffle_blocks)
        std::shuffle(blocks.begin(), blocks.end(), random_);
    else if (config_.schedule == simt_schedule::reverse)
        std::reverse(blocks.begin(), blocks.end());
    for (const uint32_t block : blocks) {
        run_block(block);
        if (stopped_)
            break;
    }
    current_run = nullptr;
    return std::move(report_);
}

void block_run::start_block(uint32_t block) {
    block_ = block;
    block_epoch_ = ++simt_machine::of_process().epoch;
    arrays_.clear();
    arena_used_ = 0;
    shared_bytes_ = 0;
    arrived_ = done_ = 0;
    simt_machine::of_process().poison_arena();
    if (shape_.shared_bytes > 0)
        place_array({nullptr, 0, shape_.shared_bytes});
    std::iota(order_.begin(), order_.end(), 0u);
    for (simt_warp& warp : warps_)
        warp.open.clear();
    mbarriers_.clear();
    clocks_.clear();
    warpgroups_.assign(shape_.threads / 128, {});
    for (uint32_t thread = 0; thread < shape_.threads; ++thread) {
        threads_[thread].state = thread_state::ready;
        threads_[thread].copies.clear();
        threads_[thread].groups_committed = 0;
        threads_[thread].waits_for = nullptr;
        threads_[thread].proxy_fence = 0;
        fibers_[thread]->start(fiber_body);
    }
    blockDim = {shape_.threads, 1, 1};
    gridDim = {shape_.grid_x, shape_.grid_y, shape_.grid_z};
    blockIdx = {block % shape_.grid_x, block / shape_.grid_x % shape_.grid_y, block / shape_.grid_x / shape_.grid_y};
}

void block_run::run_block(uint32_t block) {
    start_block(block);
    while (done_ < shape_.threads && !stopped_) {
        order_round();
        if (!run_round() && !stopped_)
            diagnose_stall();
    }
    if (!stopped_)
        check_all_work_done();
    close_access_groups();
}

void block_run::order_round() {
    if (config_.schedule == simt_schedule::random || config_.schedule == simt_schedule::random_greedy)
        std::shuffle(order_.begin(), order_.end(), random_);
    else if (config_.schedule == simt_schedule::reverse)
        for (uint32_t i = 0; i < order_.size(); ++i)
            order_[i] = uint32_t(order_.size()) - 1 - i;
}

// Gives every thread (or warp) that can run a turn; false when none could.
bool block_run::run_round() {
    const bool by_warp =
        config_.schedule == simt_schedule::warp_greedy || config_.schedule == simt_schedule::random_greedy;
    bool ran = false;
    for (const uint32_t thread : order_) {
        if (stopped_)
            break;
        if (by_warp)
            ran = run_warp(thread / 32) || ran;
        else
            ran = run_thread(thread) || ran;
    }
    return ran;
}

bool block_run::run_warp(uint32_t warp) {
    bool ran = false;
    for (bool again = true; again && !stopped_;) {
        again = false;
        for (uint32_t thread = warp * 32; thread < std::min(warp * 32 + 32, shape_.threads) && !stopped_; ++thread)
            again = run_thread(thread) || again;
        ran = ran || again;
    }
    return ran;
}

bool block_run::run_thread(uint32_t thread) {
    if (threads_[thread].state != thread_state::ready)
        return false;
    current_ = thread;
    threadIdx = {thread, 0, 0};
    threads_[thread].accesses_begin = report_.accesses;
    fibers_[thread]->enter();
    if (++report_.switches > config_.switches_max && !stopped_) {
        find(simt_fault::spinning, "more than " + std::to_string(config_.switches_max) + " switches", this, nullptr);
        stopped_ = true;
    }
    return true;
}

void block_run::yield(thread_state state, simt_place place) {
    const uint32_t thread = current_;
    threads_[thread].state = state;
    threads_[thread].place = place;
    fibers_[thread]->leave(false);
}

void block_run::call_body() {
    try {
        return body_(context_);
    } catch (const std::exception& error) {
        exception_text_ = error.what();
    } catch (...) {
        exception_text_ = "not a std::exception";
    }
    stop(simt_fault::exception, [&] { return exception_text_; });
}

void block_run::finish_thread() {
    threads_[current_].state = thread_state::done;
    ++done_;
    fibers_[current_]->leave(true);
}

void block_run::wait_for_block(simt_place place) {
    if (++arrived_ < shape_.threads)
        return yield(thread_state::at_barrier, place);
    threads_[current_].place = place;
    release_barrier();
}

void block_run::release_barrier() {
    for (const simt_thread& thread : threads_)
        if (thread.place.line != threads_[0].place.line || std::strcmp(thread.place.file, threads_[0].place.file) != 0)
            stop(simt_fault::divergent_barrier, [&] {
                return std::string("threads of one block met at " + text_of(threads_[0].place) + " and " +
                                   text_of(thread.place));
            });
    for (simt_thread& thread : threads_)
        thread.state = thread_state::ready;
    arrived_ = 0;
    simt_machine::of_process().epoch++;
    ++report_.barriers;
}

void block_run::join_warp(uint32_t mask, void (*execute)(block_run&, void* const*, uint32_t), void* operands,
                          simt_place place) {
    const uint32_t lane = current_ % 32;
    simt_warp& warp = warps_[current_ / 32];
    if ((mask >> lane & 1u) == 0)
        stop(simt_fault::divergent_warp, [&] {
            return std::string("lane " + std::to_string(lane) + " is not in its own mask at " + text_of(place));
        });
    warp_operation* open = nullptr;
    for (warp_operation& other : warp.open) {
        if ((other.mask & mask) == 0)
            continue;
        const bool same = other.mask == mask && other.execute == execute && other.place.line == place.line &&
                          std::strcmp(other.place.file, place.file) == 0;
        if (!same)
            stop(simt_fault::divergent_warp, [&] {
                return std::string(name_thread(current_) + " at " + text_of(place) +
                                   " while lanes of its warp wait at " + text_of(other.place));
            });
        open = &other;
    }
    if (open == nullptr) {
        warp.open.push_back({execute, place, mask});
        open = &warp.open.back();
    }
    open->operands[lane] = operands;
    open->arrived |= 1u << lane;
    if (open->arrived != mask)
        return yield(thread_state::in_warp_operation, place);
    const warp_operation complete = *open;
    warp.open.erase(warp.open.begin() + (open - warp.open.data()));
    complete.execute(*this, complete.operands, mask);
    for (uint32_t other = 0; other < 32; ++other)
        if (mask >> other & 1u)
            threads_[warp_begin() + other].state = thread_state::ready;
}

// Nobody can run and not all are done: somebody waits for threads that wait elsewhere or have left.
void block_run::diagnose_stall() {
    stopped_ = true;
    for (uint32_t thread = 0; thread < shape_.threads; ++thread) {
        if (threads_[thread].state != thread_state::in_warp_operation)
            continue;
        for (const warp_operation& open : warps_[thread / 32].open)
            if (open.arrived >> thread % 32 & 1u)
                return find(simt_fault::divergent_warp,
                            "block " + std::to_string(block_) + " warp " + std::to_string(thread / 32) + " at " +
                                text_of(open.place) + ": lane mask " + std::to_string(open.mask) + ", only " +
                                std::to_string(open.arrived) + " came",
                            open.place.file, nullptr);
    }
    if (diagnose_asynchronous_stall())
        return;
    for (uint32_t thread = 0; thread < shape_.threads; ++thread)
        if (threads_[thread].state == thread_state::at_barrier)
            return find(simt_fault::divergent_barrier,
                        "block " + std::to_string(block_) + " at " + text_of(threads_[thread].place) + ": " +
                            std::to_string(arrived_) + " of " + std::to_string(shape_.threads) + " threads came, " +
                            std::to_string(done_) + " have left",
                        threads_[thread].place.file, nullptr);
}

void block_run::find(simt_fault fault, const std::string& text, const void* key_a, const void* key_b) {
    const std::pair<const void*, const void*> key{key_a, key_b};
    const bool known = std::find(found_.begin(), found_.end(), key) != found_.end();
    if (report_.findings.size() >= findings_max || (known && report_.has(fault)))
        return;
    found_.push_back(key);
    report_.findings.push_back({fault, text});
}

void block_run::leave_for_good() {
    stopped_ = true;
    fibers_[current_]->leave(true);
    std::terminate(); // a fiber that left for good was entered
}

std::string block_run::name_thread(uint32_t thread) const {
    if (thread == bulk_thread())
        return "block " + std::to_string(block_) + " a bulk copy";
    return "block " + std::to_string(block_) + " thread " + std::to_string(thread);
}

simt_report simt_run(const launch_shape& shape, const simt_config& config, simt_memory& memory,
                     void (*body)(const void*), const void* context) {
    if (current_run != nullptr || shape.threads == 0 || shape.threads > threads_max) {
        simt_report report;
        report.findings.push_back({simt_fault::exception, "a launch inside a launch, or no or too many threads"});
        return report;
    }
    return block_run(shape, config, memory, body, context).run();
}

} // namespace moira
