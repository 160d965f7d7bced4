// Tokens chosen on the device, executed on the host, against core/sample.
#include "core/sample/sampler.hpp"
#include "kernels/cuda/host/executor.hpp"
#include "kernels/cuda/smxx/sample.hpp"
#include "tests/cuda/smxx_on_host.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <set>

namespace moira {

namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

struct sampled_rows {
    std::vector<sample_candidate> candidates; // [rows, kept]
    std::vector<double> uniforms;
};

struct logits_rows {
    uint32_t vocabulary;
    uint32_t rows;
    std::vector<float> logits; // [rows][vocabulary + 3]
    std::vector<uint64_t> seeds;
    std::vector<int64_t> positions;

    uint64_t stride() const { return vocabulary + 3; }
    float* row(uint32_t index) { return logits.data() + index * stride(); }
    std::vector<float> copy(uint32_t index) const {
        const auto begin = logits.begin() + int64_t(index * stride());
        return {begin, begin + vocabulary};
    }
};

// Few different values, so that there are ties; what lies between rows would win.
logits_rows make_rows(uint32_t vocabulary, uint32_t rows) {
    logits_rows made{vocabulary, rows, std::vector<float>(rows * (vocabulary + 3), 1000.0f), {}, {}};
    std::mt19937 random(vocabulary);
    for (uint32_t row = 0; row < rows; ++row) {
        for (uint32_t i = 0; i < vocabulary; ++i)
            made.row(row)[i] = float(int(random() % 401) - 200) / 16.0f;
        made.seeds.push_back(uint64_t{random()} << 32 | random());
        made.positions.push_back(int64_t(row) << 31 | row);
    }
    return made;
}

sampled_rows sample(const logits_rows& rows, uint32_t kept, const simt_config& config) {
    simt_memory memory;
    sample_args args{};
    args.rows = rows.rows;
    args.vocabulary = rows.vocabulary;
    args.kept = kept;
    args.logits = memory.copy_of("logits", rows.logits);
    args.logits_stride = rows.stride();
    args.seeds = memory.copy_of("seeds", rows.seeds);
    args.positions = memory.copy_of("positions", rows.positions);
    args.workspace = memory.allocate("workspace", sample_workspace_bytes(args));
    args.candidates = memory.allocate_array<sample_candidate>("candidates", uint64_t{rows.rows} * kept);
    args.uniforms = memory.allocate_array<double>("uniforms", rows.rows);
    const simt_report report = smxx_on_host{config, memory}.sample(args);
    REQUIRE_MESSAGE(report.clean(), report.text());
    return {{args.candidates, args.candidates + uint64_t{rows.rows} * kept},
            {args.uniforms, args.uniforms + rows.rows}};
}

// The row with nothing but the candidates: core/sample passes over NaN.
std::vector<float> kept_alone(const logits_rows& rows, const sampled_rows& sampled, uint32_t row, uint32_t kept) {
    std::vector<float> alone(rows.vocabulary, nan);
    for (uint32_t i = 0; i < kept; ++i) {
        const sample_candidate& each = sampled.candidates[row * kept + i];
        if (each.token >= 0)
            alone[uint32_t(each.token)] = each.logit;
    }
    return alone;
}

} // namespace

TEST_CASE("greedy tokens are core/sample's in rows of every length, ties, zeros, infinities and NaN included") {
    for (const uint32_t vocabulary : {1u, 7u, 255u, 2047u, 2048u, 2049u, 6500u}) {
        logits_rows rows = make_rows(vocabulary, 6);
        rows.row(1)[vocabulary / 2] = nan;
        std::fill(rows.row(2), rows.row(2) + vocabulary, nan);
        std::fill(rows.row(3), rows.row(3) + vocabulary, -infinity);
        rows.row(4)[vocabulary - 1] = infinity;
        std::fill(rows.row(5), rows.row(5) + vocabulary, -0.0f);
        rows.row(5)[vocabulary / 3] = 0.0f;
        for (const simt_config& config : simt_all_schedules(41)) {
            const sampled_rows sampled = sample(rows, 1, config);
            for (uint32_t row = 0; row < rows.rows; ++row) {
                INFO("vocabulary ", vocabulary, ", row ", row);
                CHECK(sampled.candidates[row].token == sample_token(rows.copy(row), {}, 0, {}));
                CHECK(sampled.uniforms[row] == uniform_at(rows.seeds[row], uint64_t(rows.positions[row])));
            }
        }
    }
}

TEST_CASE("the last of 151,936 logits is found through three levels of parts") {
    logits_rows rows = make_rows(151936, 1);
    rows.row(0)[151935] = 20.0f;
    CHECK(sample(rows, 1, {}).candidates[0].token == 151935);
    CHECK(sample(rows, 256, {}).candidates[0].token == 151935);
}

TEST_CASE("kept logits are the best in core/sample's order, and it draws from them as from all of the row") {
    const std::pair<uint32_t, uint32_t> shapes[] = {{5, 8}, {2048, 2}, {2049, 40}, {6500, 256}};
    for (const auto& [vocabulary, kept] : shapes) {
        logits_rows rows = make_rows(vocabulary, 3);
        rows.row(1)[0] = nan;
        rows.row(1)[vocabulary - 1] = infinity;
        uint32_t turn = 0;
        for (const simt_config& config : simt_all_schedules(43)) {
            const sampled_rows sampled = sample(rows, kept, config);
            for (uint32_t row = 0; row < rows.rows; ++row) {
                const std::vector<float> all = rows.copy(row);
                const std::vector<float> alone = kept_alone(rows, sampled, row, kept);
                for (uint32_t i = 0; i < kept; ++i) {
                    const sample_candidate* each = sampled.candidates.data() + row * kept + i;
                    CHECK((each->token < 0) == (i >= vocabulary - (row == 1 ? 1 : 0)));
                    if (each->token < 0)
                        continue;
                    CHECK(each->logit == all[uint32_t(each->token)]);
                    if (i > 0)
                        CHECK((each[-1].logit > each->logit ||
                               (each[-1].logit == each->logit && each[-1].token < each->token)));
                }
                sampling_parameters parameters;
                parameters.temperature = 0.5 + turn;
                parameters.top_k = int32_t(1 + turn * (kept - 1) / 4); // the last: all that were kept
                parameters.top_p = turn % 2 == 0 ? 0.9 : 1.0;
                parameters.min_p = turn == 3 ? 0.01 : 0.0;
                parameters.seed = rows.seeds[row] + turn;
                CHECK(sample_token(alone, parameters, rows.positions[row], {}) ==
                      sample_token(all, parameters, rows.positions[row], {}));
            }
            ++turn;
        }
    }
}

} // namespace moira
