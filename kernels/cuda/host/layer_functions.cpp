// The functions of the layer that device code calls. Never compiled with hooks.
#include "kernels/cuda/device/fragment_maps.hpp"
#include "kernels/cuda/host/block_run.hpp"

#include <algorithm>
#include <cstring>

namespace moira {

namespace {

struct shuffle_operands {
    uint32_t bits;
    uint32_t source;
    uint32_t result;
    const char* place;
};

void execute_shuffle(block_run& run, void* const* operands, uint32_t mask) {
    for (uint32_t lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1u) == 0)
            continue;
        auto& own = *static_cast<shuffle_operands*>(operands[lane]);
        if ((mask >> own.source & 1u) == 0)
            run.stop(simt_fault::divergent_warp, [&] {
                return std::string("a shuffle from lane " + std::to_string(own.source) + ", which is not in the mask " +
                                   std::to_string(mask));
            });
        own.result = static_cast<shuffle_operands*>(operands[own.source])->bits;
    }
}

struct ballot_operands {
    int predicate;
    uint32_t result;
};

void execute_ballot(block_run&, void* const* operands, uint32_t mask) {
    uint32_t result = 0;
    for (uint32_t lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1u)
            result |= uint32_t(static_cast<ballot_operands*>(operands[lane])->predicate != 0) << lane;
    for (uint32_t lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1u)
            static_cast<ballot_operands*>(operands[lane])->result = result;
}

void execute_sync(block_run& run, void* const*, uint32_t mask) {
    if (mask == 0xFFFFFFFFu) // a part of the warp orders only itself, which the warp's clock cannot say
        run.synchronize_warp();
}

struct matrix_operands {
    const void* row;
    uint32_t* registers;
    simt_place place;
};

void check_rows(block_run& run, void* const* operands) {
    const void* rows[32];
    for (uint32_t lane = 0; lane < 32; ++lane) {
        const auto& own = *static_cast<matrix_operands*>(operands[lane]);
        rows[lane] = own.row;
        const simt_origin origin{nullptr, own.place.file, own.place.line};
        if (!run.is_shared(own.row, 16))
            run.stop(simt_fault::out_of_bounds,
                     [&] { return std::string("ldmatrix outside of shared arrays, at " + text_of(own.place)); });
        run.access(own.row, 16, 16, simt_access::read, origin, run.warp_begin() + lane);
    }
    run.count_matrix_banks(const_cast<void**>(rows), 4);
}

template <tile_place (*place_of)(uint32_t, uint32_t)>
void execute_ldmatrix(block_run& run, void* const* operands, uint32_t) {
    check_rows(run, operands);
    for (uint32_t lane = 0; lane < 32; ++lane) {
        for (uint32_t matrix = 0; matrix < 4; ++matrix) {
            uint32_t bits = 0;
            for (uint32_t half = 0; half < 2; ++half) {
                const tile_place place = place_of(lane, half);
                const auto& owner = *static_cast<matrix_operands*>(operands[matrix * 8 + place.row]);
                uint16_t element;
                std::memcpy(&element, static_cast<const char*>(owner.row) + place.column * 2, 2);
                bits |= uint32_t{element} << half * 16;
            }
            static_cast<matrix_operands*>(operands[lane])->registers[matrix] = bits;
        }
    }
}

tile_place straight(uint32_t lane, uint32_t half) {
    return ldmatrix_place(lane, half);
}
tile_place transposed(uint32_t lane, uint32_t half) {
    return ldmatrix_trans_place(lane, half);
}

struct mma_operands {
    float* d;
    const uint32_t* a;
    const uint32_t* b;
};

float half_of(const uint32_t* registers, uint32_t element) {
    return float_of(registers[element / 2] >> element % 2 * 16 << 16);
}

// Products are exact in double; their sum with the accumulator is rounded once to float32. Hardware adds in an order
// and width that nobody documents: results agree within a few units of the largest term, not in their bits.
void execute_mma(block_run&, void* const* operands, uint32_t) {
    double a[16][16], b[16][8];
    for (uint32_t lane = 0; lane < 32; ++lane) {
        const auto& own = *static_cast<mma_operands*>(operands[lane]);
        for (uint32_t element = 0; element < 8; ++element) {
            const tile_place place = mma_a_place(lane, element);
            a[place.row][place.column] = double(half_of(own.a, element));
        }
        for (uint32_t element = 0; element < 4; ++element) {
            const tile_place place = mma_b_place(lane, element);
            b[place.row][place.column] = double(half_of(own.b, element));
        }
    }
    for (uint32_t lane = 0; lane < 32; ++lane) {
        auto& own = *static_cast<mma_operands*>(operands[lane]);
        for (uint32_t element = 0; element < 4; ++element) {
            const tile_place place = mma_c_place(lane, element);
            double sum = double(own.d[element]);
            for (uint32_t k = 0; k < 16; ++k)
                sum += a[place.row][k] * b[k][place.column];
            own.d[element] = float(sum);
        }
    }
}

template <class Number>
Number atomic_add(Number* address, Number value, simt_place place) {
    simt_current()->access(address, sizeof(Number), sizeof(Number), simt_access::atomic,
                           {nullptr, place.file, place.line});
    const Number before = *address;
    *address = Number(before + value);
    return before;
}

} // namespace

void* simt_static_shared(const void* tag, uint64_t bytes) {
    return simt_current()->static_shared(tag, bytes);
}
void* simt_dynamic_shared() {
    return simt_current()->dynamic_shared();
}
void simt_check_read(const void* address, uint32_t bytes, uint32_t alignment, simt_place place) {
    simt_current()->access(address, bytes, alignment, simt_access::read, {nullptr, place.file, place.line});
    simt_current()->count_access(address, bytes, place);
}
void simt_check_write(const void* address, uint32_t bytes, uint32_t alignment, simt_place place) {
    simt_current()->access(address, bytes, alignment, simt_access::write, {nullptr, place.file, place.line});
    simt_current()->count_access(address, bytes, place);
}

void __syncthreads(simt_place place) {
    simt_current()->wait_for_block(place);
}
void __syncwarp(uint32_t mask, simt_place place) {
    simt_current()->join_warp(mask, execute_sync, nullptr, place);
}
uint32_t __ballot_sync(uint32_t mask, int predicate, simt_place place) {
    ballot_operands own{predicate, 0};
    simt_current()->join_warp(mask, execute_ballot, &own, place);
    return own.result;
}
uint32_t simt_shuffle(uint32_t mask, uint32_t bits, uint32_t source, simt_place place) {
    shuffle_operands own{bits, source, 0, place.file};
    simt_current()->join_warp(mask, execute_shuffle, &own, place);
    return own.result;
}

float atomicAdd(float* address, float value, simt_place place) {
    return atomic_add(address, value, place);
}
uint32_t atomicAdd(uint32_t* address, uint32_t value, simt_place place) {
    return atomic_add(address, value, place);
}
int32_t atomicAdd(int32_t* address, int32_t value, simt_place place) {
    return atomic_add(address, value, place);
}
unsigned long long atomicMin(unsigned long long* address, unsigned long long value, simt_place place) {
    simt_current()->access(address, 8, 8, simt_access::atomic, {nullptr, place.file, place.line});
    const unsigned long long before = *address;
    *address = std::min(before, value);
    return before;
}

void ldmatrix_x4(uint32_t (&registers)[4], const void* row, simt_place place) {
    matrix_operands own{row, registers, place};
    simt_current()->join_warp(0xFFFFFFFFu, execute_ldmatrix<straight>, &own, place);
}
void ldmatrix_x4_trans(uint32_t (&registers)[4], const void* row, simt_place place) {
    matrix_operands own{row, registers, place};
    simt_current()->join_warp(0xFFFFFFFFu, execute_ldmatrix<transposed>, &own, place);
}
void mma_16816_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], simt_place place) {
    mma_operands own{d, a, b};
    simt_current()->join_warp(0xFFFFFFFFu, execute_mma, &own, place);
}

void cp_async16(void* shared, const void* global, bool wanted, simt_place place) {
    simt_current()->issue_copy(shared, global, wanted, place);
}
void cp_async_commit(simt_place) {
    simt_current()->commit_copies();
}
void simt_cp_async_wait(uint32_t groups, simt_place place) {
    simt_current()->wait_for_copies(groups, place);
}

} // namespace moira
