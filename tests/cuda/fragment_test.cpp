// The layer's fragment maps and the executor's ldmatrix against tables that were written without them: one from the PTX
// specification's formulas, one from CuTe's traits (see fragment_oracle/).
#include "kernels/cuda/device/fragment_maps.hpp"
#include "tests/cuda/planted_faults.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <string>
#include <tuple>

namespace moira {

namespace {

using fragment_table = std::map<std::tuple<std::string, uint32_t, uint32_t>, tile_place>;

fragment_table read_table(const std::string& name) {
    std::ifstream file(MOIRA_TEST_DATA "/cuda/" + name);
    fragment_table table;
    std::string instruction;
    uint32_t lane, element, row, column;
    while (file >> instruction >> lane >> element >> row >> column)
        table[{instruction, lane, element}] = {row, column};
    return table;
}

void check_place(const tile_place& expected, const tile_place& found) {
    CHECK(expected.row == found.row);
    CHECK(expected.column == found.column);
}

} // namespace

TEST_CASE("the fragment maps are those of the PTX specification and of CuTe") {
    for (const char* name : {"fragments_ptx.txt", "fragments_cute.txt"}) {
        fragment_table table = read_table(name);
        REQUIRE(table.size() == 32 * (8 + 4 + 4 + 8 + 8));
        for (uint32_t lane = 0; lane < 32; ++lane) {
            INFO(std::string(name), " lane ", lane);
            for (uint32_t element = 0; element < 8; ++element) {
                check_place(table[{"mma_a", lane, element}], mma_a_place(lane, element));
                const uint32_t first_row = element / 2 * 8;
                tile_place place = ldmatrix_place(lane, element % 2);
                check_place(table[{"ldmatrix_x4", lane, element}], {first_row + place.row, place.column});
                place = ldmatrix_trans_place(lane, element % 2);
                check_place(table[{"ldmatrix_x4_trans", lane, element}], {first_row + place.row, place.column});
            }
            for (uint32_t element = 0; element < 4; ++element) {
                check_place(table[{"mma_b", lane, element}], mma_b_place(lane, element));
                check_place(table[{"mma_c", lane, element}], mma_c_place(lane, element));
            }
        }
    }
}

TEST_CASE("ldmatrix brings each lane the elements that the tables say") {
    std::vector<uint16_t> matrices(4 * 64);
    for (uint32_t i = 0; i < matrices.size(); ++i)
        matrices[i] = uint16_t(i);
    fragment_table table = read_table("fragments_cute.txt");
    for (const bool transposed : {false, true}) {
        simt_memory memory;
        auto* out = memory.allocate_array<uint32_t>("out", 32 * 4);
        const simt_report report = run_one_ldmatrix({}, memory, memory.copy_of("matrices", matrices), out, transposed);
        CHECK_MESSAGE(report.clean(), report.text());
        for (uint32_t lane = 0; lane < 32; ++lane)
            for (uint32_t element = 0; element < 8; ++element) {
                const tile_place place = table[{transposed ? "ldmatrix_x4_trans" : "ldmatrix_x4", lane, element}];
                CHECK((out[lane * 4 + element / 2] >> element % 2 * 16 & 0xFFFFu) == place.row * 8 + place.column);
            }
    }
}

} // namespace moira
