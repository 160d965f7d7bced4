// wgmma: operations that 128 threads join, products that happen at their wait. Never compiled with hooks.
#include "kernels/cuda/device/simt_sm90.hpp"
#include "kernels/cuda/host/block_run.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace moira {

namespace {

constexpr uint32_t k_pieces = 2; // of 8 elements: k = 16

struct commit_operands {
    uint32_t groups_left;
};

void execute_nothing(block_run&, void* const*, uint32_t) {}
void execute_fence(block_run& run, void* const*, uint32_t group) {
    run.fence_wgmma(group);
}
void execute_commit(block_run& run, void* const*, uint32_t group) {
    run.commit_wgmma(group);
}
void execute_wait(block_run& run, void* const* operands, uint32_t group) {
    run.finish_wgmma(group, static_cast<const commit_operands*>(operands[0])->groups_left);
}
void execute_wgmma(block_run& run, void* const* operands, uint32_t group) {
    const wgmma_operands* lanes[warpgroup_threads];
    for (uint32_t lane = 0; lane < warpgroup_threads; ++lane)
        lanes[lane] = static_cast<const wgmma_operands*>(operands[lane]);
    run.issue_wgmma(lanes, group);
}

float half_of(const std::array<uint32_t, 4>& registers, uint32_t element) {
    return float_of(registers[element / 2] >> element % 2 * 16 << 16);
}

} // namespace

void block_run::join_warpgroup(warpgroup_execute execute, void* operands, simt_place place) {
    const uint32_t group = current_ / warpgroup_threads;
    if (group >= warpgroups_.size())
        stop(simt_fault::divergent_warp,
             [&] { return std::string("a warpgroup that the block does not have whole, at " + text_of(place)); });
    simt_warpgroup& warpgroup = warpgroups_[group];
    if (warpgroup.arrived == 0) {
        warpgroup.execute = execute;
        warpgroup.place = place;
    } else if (warpgroup.execute != execute || warpgroup.place.line != place.line ||
               std::strcmp(warpgroup.place.file, place.file) != 0) {
        stop(simt_fault::divergent_warp, [&] {
            return std::string(name_thread(current_) + " at " + text_of(place) + " while its warpgroup waits at " +
                               text_of(warpgroup.place));
        });
    }
    warpgroup.operands[current_ % warpgroup_threads] = operands;
    if (++warpgroup.arrived < warpgroup_threads)
        return yield(thread_state::in_warp_operation, place);
    warpgroup.arrived = 0;
    const std::array<void*, warpgroup_threads> complete = warpgroup.operands;
    execute(*this, complete.data(), group);
    for (uint32_t lane = 0; lane < warpgroup_threads; ++lane)
        threads_[group * warpgroup_threads + lane].state = thread_state::ready;
}

void block_run::issue_wgmma(const wgmma_operands* const* lanes, uint32_t group) {
    simt_warpgroup& warpgroup = warpgroups_[group];
    const wgmma_operands& first = *lanes[0];
    const bool alike = std::all_of(lanes, lanes + warpgroup_threads, [&](const wgmma_operands* each) {
        return each->b == first.b && each->accumulate == first.accumulate && each->n == first.n;
    });
    if (!warpgroup.fenced || !alike || descriptor_rest(first.b) != 0)
        stop(simt_fault::misused_barrier, [&] {
            return std::string("wgmma without wgmma_fence, with different operands in its threads, or with an invalid "
                               "descriptor, at " +
                               text_of(first.place));
        });
    wgmma_operation operation{
        first.d,    first.n, first.accumulate, first.b, {}, warpgroup.groups_committed, group * warpgroup_threads,
        first.place};
    wgmma_sums_under_way& sums = warpgroup.sums[first.d];
    if (sums.operations++ == 0)
        sums.values.assign(size_t{warpgroup_threads} * first.n / 2, 0.0f);
    for (uint32_t lane = 0; lane < warpgroup_threads; ++lane) {
        std::copy(lanes[lane]->a, lanes[lane]->a + 4, operation.a[lane].begin());
        if (sums.operations > 1)
            continue;
        sums.registers[lane] = lanes[lane]->d;
        for (uint32_t i = 0; i < first.n / 2; ++i) {
            sums.values[lane * (first.n / 2) + i] = lanes[lane]->d[i];
            lanes[lane]->d[i] = std::numeric_limits<float>::quiet_NaN();
        }
    }
    read_rows(operation); // they must be there from now until the wait
    warpgroup.operations.push_back(operation);
}

// Written by a thread and not fenced since.
void block_run::check_proxy(const unsigned char* address, simt_place place) {
    for (uint32_t i = 0; i < 16; ++i) {
        const shadow_byte& byte = shared_shadow_[size_t(address - arena_) + i];
        if (byte.write_epoch >= block_epoch_ && byte.write_thread < shape_.threads &&
            byte.write_sequence > threads_[byte.write_thread].proxy_fence)
            return find(simt_fault::unfenced_proxy,
                        "wgmma at " + text_of(place) + " reads what " + name_thread(byte.write_thread) + " wrote at " +
                            text_of(byte.write_origin),
                        place.file, nullptr);
    }
}

// Into rows_ through the descriptor. The warpgroup's threads take turns as the readers: each reads what a neighbour
// is likely to have written.
void block_run::read_rows(const wgmma_operation& operation) {
    rows_.resize(size_t{operation.n} * 16);
    const matrix_place place = decode_matrix(operation.b);
    const simt_origin origin{nullptr, operation.place.file, operation.place.line};
    for (uint32_t piece = 0; piece < k_pieces; ++piece)
        for (uint32_t first_row = 0; first_row < operation.n; first_row += 8) {
            void* addresses[8];
            for (uint32_t r = 0; r < 8; ++r) {
                const uint32_t row = first_row + r;
                unsigned char* address = arena_ + matrix_piece_address(place, row, piece);
                addresses[r] = address;
                if (!is_shared(address, 16))
                    stop(simt_fault::out_of_bounds, [&] {
                        return std::string("wgmma reads outside of shared arrays, at " + text_of(operation.place));
                    });
                access(address, 16, 16, simt_access::read, origin,
                       operation.first_thread + ((row * k_pieces + piece) * 5 + 3) % warpgroup_threads);
                check_proxy(address, operation.place);
                for (uint32_t k = 0; k < 8; ++k) {
                    uint16_t bits;
                    std::memcpy(&bits, address + k * 2, 2);
                    rows_[row * 16 + piece * 8 + k] = double(float_of(uint32_t{bits} << 16));
                }
            }
            count_matrix_banks(addresses, 1);
        }
}

// Products are exact in double; their sum with the accumulator is rounded once to float32, as for mma.sync.
void block_run::multiply(const wgmma_operation& operation, wgmma_sums_under_way& sums) {
    const uint32_t n = operation.n;
    read_rows(operation);
    for (uint32_t warp = 0; warp < warpgroup_warps; ++warp) {
        double a[16][16];
        for (uint32_t lane = 0; lane < warp_lanes; ++lane)
            for (uint32_t element = 0; element < 8; ++element) {
                const tile_place place = wgmma_a_place(lane, element);
                a[place.row][place.column] = double(half_of(operation.a[warp * warp_lanes + lane], element));
            }
        for (uint32_t lane = 0; lane < warp_lanes; ++lane)
            for (uint32_t element = 0; element < n / 2; ++element) {
                const tile_place place = wgmma_d_place(lane, element);
                float& value = sums.values[(warp * warp_lanes + lane) * (n / 2) + element];
                double sum = operation.accumulate ? double(value) : 0.0;
                for (uint32_t k = 0; k < 16; ++k)
                    sum += a[place.row][k] * rows_[place.column * 16 + k];
                value = float(sum);
            }
    }
}

void block_run::finish_wgmma(uint32_t group, uint32_t groups_left) {
    simt_warpgroup& warpgroup = warpgroups_[group];
    warpgroup.fenced = false;
    size_t done = 0;
    for (; done < warpgroup.operations.size(); ++done) {
        const wgmma_operation& operation = warpgroup.operations[done];
        if (operation.group + groups_left >= warpgroup.groups_committed)
            break;
        wgmma_sums_under_way& sums = warpgroup.sums[operation.sums];
        multiply(operation, sums);
        if (--sums.operations != 0)
            continue;
        for (uint32_t lane = 0; lane < warpgroup_threads; ++lane)
            std::copy_n(sums.values.data() + lane * (operation.n / 2), operation.n / 2, sums.registers[lane]);
        warpgroup.sums.erase(operation.sums);
    }
    warpgroup.operations.erase(warpgroup.operations.begin(), warpgroup.operations.begin() + std::ptrdiff_t(done));
}

// ---- the layer's functions ----

void simt_set_registers(simt_place place) {
    simt_current()->join_warpgroup(execute_nothing, nullptr, place);
}
void wgmma_fence(simt_place place) {
    simt_current()->join_warpgroup(execute_fence, nullptr, place);
}
void wgmma_commit(simt_place place) {
    simt_current()->join_warpgroup(execute_commit, nullptr, place);
}
void simt_wgmma(float* d, uint32_t n, const uint32_t* a, uint64_t b, bool accumulate, simt_place place) {
    wgmma_operands own{d, n, a, b, accumulate, place};
    simt_current()->join_warpgroup(execute_wgmma, &own, place);
}
void simt_wgmma_wait(uint32_t groups, simt_place place) {
    commit_operands own{groups};
    simt_current()->join_warpgroup(execute_wait, &own, place);
}

} // namespace moira
