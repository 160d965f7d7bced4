// What the sm_90 kernels ask of the hardware, stage by stage: their bulk copies and their descriptors, made by the
// functions that the kernels call, are walked address by address.
#include "kernels/cuda/sm90/wgmma_kernels.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

namespace moira {

namespace {

constexpr uint32_t stages_of_k = 3;

struct walked_shape {
    std::string name;
    uint32_t rows; // at most
    void (*check_copies)(uint32_t rows);
    void (*check_rows)(uint32_t rows);
};

// A tile of `rows` rows in the second column block of a matrix whose last block is ragged.
template <class Shape>
wgmma_source source_of(const std::vector<uint16_t>& x, const std::vector<unsigned char>& weights, uint32_t rows) {
    wgmma_source source{};
    source.weight = weights.data();
    source.weight2 = weights.data() + weights.size() / 2;
    source.x = reinterpret_cast<const unsigned char*>(x.data());
    source.rows = rows;
    source.column_tile = Shape::column_tiles;
    source.column_tiles = Shape::column_tiles + 1;
    source.stages = stages_of_k;
    return source;
}

// Every byte of a stage is written by one copy, up to the end of the rows that there are; sizes add up and are what
// hardware takes.
template <class Shape>
void check_copies(uint32_t rows) {
    const std::vector<uint16_t> x(rows * stages_of_k * Shape::stage_k);
    const std::vector<unsigned char> weights(2 * (Shape::column_tiles + 1) * stages_of_k * Shape::tile_bytes);
    const wgmma_source source = source_of<Shape>(x, weights, rows);
    for (uint32_t stage = 0; stage < stages_of_k; ++stage) {
        std::vector<uint32_t> written(Shape::stage_bytes);
        uint64_t bytes = 0;
        for (uint32_t index = 0; index < stage_copies<Shape>; ++index) {
            const stage_copy copy = stage_copy_of<Shape>(source, stage, index);
            CHECK(copy.to % 16 == 0);
            CHECK(copy.bytes % 16 == 0);
            const auto* all = reinterpret_cast<const unsigned char*>(x.data());
            const bool from_x = copy.from >= all && copy.from + copy.bytes <= all + x.size() * 2;
            const bool from_weights =
                copy.from >= weights.data() && copy.from + copy.bytes <= weights.data() + weights.size();
            CHECK((from_x || from_weights));
            CHECK((copy.from - (from_x ? all : weights.data())) % 16 == 0);
            REQUIRE(copy.to + copy.bytes <= Shape::stage_bytes);
            for (uint32_t i = 0; i < copy.bytes; ++i)
                ++written[copy.to + i];
            bytes += copy.bytes;
        }
        CHECK(bytes == stage_copy_bytes<Shape>(source));
        CHECK(bytes < 1u << 20); // an mbarrier counts no further
        for (uint32_t i = 0; i < Shape::stage_bytes; ++i) {
            const bool behind = i >= Shape::weight_bytes + rows * Shape::row_bytes;
            REQUIRE(written[i] == (behind ? 0 : 1));
        }
    }
}

// The rows of a stage as its copies leave them: element (row, k) holds row * stage_k + k.
template <class Shape>
std::vector<unsigned char> stage_with_rows(uint32_t rows) {
    std::vector<uint16_t> x(rows * Shape::stage_k);
    for (uint32_t row = 0; row < rows; ++row)
        for (uint32_t k = 0; k < Shape::stage_k; ++k)
            x[tiled_element(rows, row, k)] = uint16_t(row * Shape::stage_k + k);
    std::vector<unsigned char> weights(2 * (Shape::column_tiles + 1) * stages_of_k * Shape::tile_bytes);
    const wgmma_source source = source_of<Shape>(x, weights, rows);
    std::vector<unsigned char> stage(Shape::stage_bytes);
    for (uint32_t index = 0; index < stage_copies<Shape>; ++index) {
        const stage_copy copy = stage_copy_of<Shape>(source, 0, index);
        std::memcpy(stage.data() + copy.to, copy.from, copy.bytes);
    }
    return stage;
}

// Every descriptor of every place in the ring reads each row's 16 of K once, and where rows are absent what was copied
// or cleared (clear_behind_rows): inside its stage, conflict-free.
template <class Shape>
void check_rows(uint32_t rows) {
    const std::vector<unsigned char> stage = stage_with_rows<Shape>(rows);
    const uint32_t cleared_end = Shape::weight_bytes + rows * Shape::row_bytes + (Shape::rows - rows) * 16;
    REQUIRE(cleared_end <= Shape::stage_bytes);
    for (uint32_t slot = 0; slot < Shape::stages; ++slot) {
        const uint32_t begin = 1024 + slot * Shape::stage_bytes; // behind other shared memory
        std::vector<uint32_t> read(rows * Shape::stage_k);
        for (uint32_t step = 0; step < Shape::stage_k / 16; ++step) {
            const matrix_place asked = stage_rows_place(begin + Shape::weight_bytes, rows, step);
            const matrix_place place = decode_matrix(encode_matrix(asked));
            REQUIRE(place.start == asked.start);
            REQUIRE(place.leading_bytes == asked.leading_bytes);
            REQUIRE(place.stride_bytes == asked.stride_bytes);
            for (uint32_t row = 0; row < Shape::rows; ++row)
                for (uint32_t piece = 0; piece < 2; ++piece) {
                    const uint32_t address = matrix_piece_address(place, row, piece);
                    REQUIRE(address % 16 == 0);
                    REQUIRE(address >= begin + Shape::weight_bytes);
                    REQUIRE(address + 16 <= begin + cleared_end);
                    // Eight rows of a piece fill the 32 banks once.
                    REQUIRE(address == matrix_piece_address(place, row / 8 * 8, piece) + row % 8 * 16);
                    for (uint32_t k = 0; k < 8 && row < rows; ++k) {
                        uint16_t element;
                        std::memcpy(&element, stage.data() + (address - begin) + k * 2, 2);
                        REQUIRE(element == row * Shape::stage_k + step * 16 + piece * 8 + k);
                        ++read[element];
                    }
                }
        }
        for (const uint32_t times : read)
            REQUIRE(times == 1);
    }
}

template <class Shape>
walked_shape walked(const std::string& name) {
    return {name, Shape::rows, check_copies<Shape>, check_rows<Shape>};
}

template <weight_format format>
void add_shapes(std::vector<walked_shape>& all, const std::string& name) {
    constexpr uint32_t widest = wgmma_rows_max(format);
    all.push_back(walked<typename wgmma_shape_for<format, 8, 1>::type>(name + ", 8 rows"));
    all.push_back(walked<typename wgmma_shape_for<format, 8, 2>::type>(name + ", 8 rows, two matrices"));
    all.push_back(walked<typename wgmma_shape_for<format, 32, 1>::type>(name + ", 32 rows"));
    all.push_back(walked<typename wgmma_shape_for<format, 32, 2>::type>(name + ", 32 rows, two matrices"));
    all.push_back(walked<typename wgmma_shape_for<format, widest, 1>::type>(name + ", widest"));
    all.push_back(walked<typename wgmma_shape_for<format, widest, 2>::type>(name + ", widest, two matrices"));
}

std::vector<walked_shape> all_shapes() {
    std::vector<walked_shape> all;
    add_shapes<weight_format::bf16>(all, "BF16");
    add_shapes<weight_format::f8_e4m3>(all, "F8_E4M3");
    add_shapes<weight_format::mxfp4>(all, "MXFP4");
    return all;
}

} // namespace

TEST_CASE("the bulk copies of a stage fill it once, in sizes that hardware takes and the barrier expects") {
    for (const walked_shape& shape : all_shapes())
        for (const uint32_t rows : {1u, shape.rows - 1, shape.rows}) {
            INFO(shape.name, ", ", rows, " present");
            shape.check_copies(rows);
        }
}

TEST_CASE("the descriptors of a stage read every row's K once, where the copies put it, without bank conflicts") {
    for (const walked_shape& shape : all_shapes())
        for (const uint32_t rows : {1u, 5u, shape.rows}) {
            INFO(shape.name, ", ", rows, " present");
            shape.check_rows(rows);
        }
}

} // namespace moira
