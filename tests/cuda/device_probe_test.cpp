// The probes of moira_device_probe on the host executor: the same kernels, tables and comparison that a GPU is held to.
#include "tests/cuda/probes_on_host.hpp"

#include <doctest/doctest.h>
#include <set>
#include <string>
#include <vector>

namespace moira {

namespace {

std::vector<uint32_t> probe_inputs() {
    std::vector<uint32_t> words(probe_in_words);
    for (uint32_t i = 0; i < probe_in_words; ++i)
        words[i] = probe_in_word(i);
    return words;
}

using probe_run = simt_report (*)(const simt_config&, simt_memory&, uint32_t, const probe_args&);

std::vector<uint32_t> run_probe(const simt_config& config, const device_probe& probe, uint32_t index, probe_run run) {
    simt_memory memory;
    const probe_args args{memory.copy_of("in", probe_inputs()),
                          memory.allocate_array<uint32_t>("out", probe_words(probe))};
    const simt_report report = run(config, memory, index, args);
    CHECK_MESSAGE(report.clean(), report.text());
    return {args.out, args.out + probe_words(probe)};
}

void check_list(const simt_config& config, const probe_list& list, probe_run run) {
    for (uint32_t index = 0; index < list.count; ++index) {
        const device_probe& probe = list.probes[index];
        const probe_mismatch mismatch = compare_probe(probe, run_probe(config, probe, index, run).data());
        CHECK_MESSAGE(!mismatch.found, probe.name, " case ", mismatch.case_index, " thread ", mismatch.thread, " word ",
                      mismatch.word, " found ", mismatch.found_bits, " expected ", mismatch.expected_bits);
    }
}

} // namespace

TEST_CASE("every probe finds what its expectation says, in every order of the threads") {
    REQUIRE(sm80_probe_kernel_count() == sm80_probes().count);
    for (const simt_config& config : simt_all_schedules(7))
        check_list(config, sm80_probes(), run_sm80_probe);
}

TEST_CASE("the warpgroup's probes find what their expectations say") {
    REQUIRE(sm90_probe_kernel_count() == sm90_probes().count);
    check_list({}, sm90_probes(), run_sm90_probe);
}

TEST_CASE("one wrong register is found, and where it is") {
    const device_probe& probe = sm80_probes().probes[0];
    std::vector<uint32_t> words = run_probe({}, probe, 0, run_sm80_probe);
    words[(17 * warp_lanes + 9) * 4 + 2] ^= 1u;
    const probe_mismatch mismatch = compare_probe(probe, words.data());
    REQUIRE(mismatch.found);
    CHECK(mismatch.case_index == 17);
    CHECK(mismatch.thread == 9);
    CHECK(mismatch.word == 2);
    CHECK(mismatch.wrong_words == 1);
}

TEST_CASE("the expectations tell every place of A, B and the result apart") {
    const probe_list list = sm80_probes();
    for (uint32_t index = 0; index < 2; ++index) { // A and B
        std::set<std::vector<uint32_t>> outcomes;
        for (uint32_t hot = 0; hot < list.probes[index].cases; ++hot) {
            std::vector<uint32_t> words;
            for (uint32_t lane = 0; lane < warp_lanes; ++lane)
                for (uint32_t word = 0; word < 4; ++word) {
                    words.push_back(list.probes[index].expected(hot, lane, word));
                    CHECK(words.back() != ~0u);
                }
            outcomes.insert(words);
        }
        CHECK(outcomes.size() == list.probes[index].cases);
    }
}

TEST_CASE("the inputs hold what rounding can get wrong: ties, subnormal numbers, and no NaN") {
    uint32_t ties = 0, subnormal = 0, subnormal_pairs = 0;
    for (uint32_t i = 0; i < 4096; ++i) {
        const float value = float_of(probe_float_bits(i));
        CHECK(value == value);
        ties += (probe_float_bits(i) & 0xFFFFu) == 0x8000u ? 1 : 0;
        subnormal += (probe_float_bits(i) & 0x7F800000u) == 0 ? 1 : 0;
        subnormal_pairs += (probe_pair_bits(i) & 0x7F80u) == 0 ? 1 : 0;
        CHECK((probe_pair_bits(i) & 0x7F80u) != 0x7F80u);
    }
    CHECK(ties > 100);
    CHECK(subnormal > 100);
    CHECK(subnormal_pairs > 100);
}

TEST_CASE("the memory probe reads what it is given and nothing behind it") {
    for (const uint64_t vectors : {1u, 1023u, 2u * 512 * 8, 2u * 512 * 8 + 700}) {
        simt_memory memory;
        const auto* data = memory.copy_of("data", std::vector<uint32_t>(vectors * 4, 1u));
        const simt_report report =
            run_speed_read({}, memory, data, vectors, 2, memory.allocate_array<uint32_t>("sink", 1));
        CHECK_MESSAGE(report.clean(), report.text());
    }
}

} // namespace moira
