#include "plugins/conformance/tolerance.hpp"

#include "plugins/moira_plugin.h"

namespace moira {
namespace {

// u = 2^-24 is half a unit in the last place of float32; h = 2^-9 that of BF16. The test data are uniform in a range
// around 0, so the largest element of a row is below 1.8 times its root mean square, and sums of k products are near
// normal: the largest of 10,000 is below 4.5 times the root mean square.
constexpr double u = 0x1p-24;
constexpr double h = 0x1p-9;

// Widest row that is summed, in the test shapes.
constexpr double root_k = 32; // sqrt(1024)

constexpr tolerance table[] = {
    {MOIRA_OP_EMBEDDING, false, 0.0, "widening is exact"},
    {MOIRA_OP_KV_APPEND, false, 0.0, "a copy, or one rounding to nearest: the same everywhere"},
    {MOIRA_OP_RMSNORM, false, 1.8 * (6 + root_k) * u,
     "a sum of k squares in another order differs by about sqrt(k) u; division, root and three products round 6 times"},
    {MOIRA_OP_ROPE, false, 2 * 1.8 * 3 * u,
     "two products and a sum, fused or not: 3 roundings of values up to 2 x 1.8"},
    {MOIRA_OP_EXPERT_GROUPS, false, 0.0, "integers, which are the same everywhere"},
    {MOIRA_OP_COMBINE, false, 8 * 4.5 * u, "at most 8 products and sums, fused or not"},
    {MOIRA_OP_ROUTER_TOPK, false, 64 * u,
     "an own exponential is good to 4 u relative at arguments up to 8 (whose own rounding gives 8 u), a softmax sum of "
     "256 adds sqrt(256) u, two divisions 2 u; scores of one row differ by up to 2 from their root mean square"},
    {MOIRA_OP_GEMM, false, 4.5 * root_k* u,
     "k products in another order: sqrt(k) u of the result's size, 4.5 deviations"},
    {MOIRA_OP_GEMM, true, 4.5 * h,
     "rounding x to BF16 changes each product by at most h relative, h / sqrt(3) on average, independently: the sum by "
     "h / sqrt(3) of its size. 4.5 deviations of a uniform error, and a margin of sqrt(3) for short k. BF16 and E4M3 "
     "weights are exact in BF16; the BF16 dot instruction takes subnormals for 0, which changes a sum by less than "
     "2^-126 times its other factors"},
    {MOIRA_OP_EXPERT_FFN, false, 4 * 4.5 * root_k* u,
     "gemm's bound three times (gate, up, down), and SiLU's slope of at most 1.1"},
    {MOIRA_OP_EXPERT_FFN, true, 3 * 4.5 * h,
     "x is rounded once for gate and up, their product once more for down: three errors of gemm's size at most"},
    {MOIRA_OP_ATTENTION_GQA, false, 256 * u,
     "a score of size up to 8 with error 8 u changes its weight by 8 u relative, twice (maximum and own); the "
     "exponential "
     "adds 4 u, weighted sums over 64 positions sqrt(64) u; 4.5 deviations, values up to 1.8"},
    {MOIRA_OP_ATTENTION_GQA, true, 3 * 4.5 * h,
     "keys and values in BF16 are exact; a kernel may round the query and the weights to meet them. The query's "
     "rounding "
     "changes a score of size 3 by 3 h / sqrt(3), and so each weight relative; the weights' own adds h / sqrt(3): both "
     "independent over positions and divided by their sum. 4.5 deviations, and a margin of sqrt(3) for few positions"},
    {MOIRA_OP_ATTENTION_MLA, false, 1024 * u,
     "attention_gqa's bound, with two projections of up to 64 terms before and after, and scores four times as large"},
    {MOIRA_OP_ATTENTION_MLA, true, 6 * 4.5 * h,
     "the query is rounded for the latent projection, the weighted latent for the value projection (gemm's bound "
     "each); "
     "scores of size 3 pass the first error on three times over, in a mean that is smaller than its terms. Keys and "
     "values "
     "in BF16: the query in latent space is rounded instead, and the weights with an error below that"},
};

} // namespace

const tolerance& tolerance_for(std::uint32_t op, bool narrow) noexcept {
    for (const tolerance& row : table) {
        if (row.op == op && row.narrow == narrow)
            return row;
    }
    return tolerance_for(op, false);
}

} // namespace moira
