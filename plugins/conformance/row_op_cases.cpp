// Cases of the ops that treat each row on its own: embedding, rmsnorm, rope, kv_append, combine, router_topk.
#include "plugins/conformance/op_case.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace moira {
namespace {

std::string shape(std::uint32_t rows, std::uint32_t width) {
    return std::to_string(rows) + "x" + std::to_string(width);
}

void add_embedding(std::vector<op_case>& cases, std::uint32_t rows, std::uint32_t type, std::uint32_t width) {
    auto desc = make_desc<moira_embedding_desc>(MOIRA_OP_EMBEDDING, rows);
    desc.vocabulary = 37;
    desc.width = width;
    desc.weight_type = type;
    const stored_weight table = random_weight(width, plain(type), desc.vocabulary, width);
    number_source numbers(width + type);
    std::vector<std::int32_t> ids(rows);
    std::generate(ids.begin(), ids.end(), [&] { return static_cast<std::int32_t>(numbers.below(desc.vocabulary)); });
    ids.front() = 0;
    ids.back() = static_cast<std::int32_t>(desc.vocabulary) - 1;
    cases.push_back({"embedding " + type_name(type) + " " + shape(rows, width), desc_bytes(desc), false, rows, width, 0,
                     [=](device_session& session, row_slice slice) {
                         moira_embedding_args args{};
                         args.rows = slice.count;
                         args.token_ids = session.upload(rows_of(ids, 1, slice.begin, slice.count));
                         args.table = session.upload(table.bytes);
                         args.out = session.reserve(std::uint64_t{slice.count} * width);
                         case_output out;
                         out.error = session.run(for_rows(desc, slice.count).header, args);
                         out.values = session.download(args.out, std::uint64_t{slice.count} * width);
                         return out;
                     }});
}

/// Rows with room between them and, when in_place, results over inputs.
void add_rmsnorm(std::vector<op_case>& cases, std::uint32_t rows, std::uint32_t width, std::uint32_t groups,
                 bool in_place) {
    auto desc = make_desc<moira_rmsnorm_desc>(MOIRA_OP_RMSNORM, rows);
    desc.width = width;
    desc.epsilon = 1e-6f;
    const std::uint32_t group_stride = width + (groups > 1 ? 3 : 0);
    const std::uint32_t stride = group_stride * groups + 5;
    const auto in = random_floats(rows + width, std::size_t{rows} * stride, 2.0f);
    const auto weight = random_floats(width, width);
    cases.push_back({"rmsnorm " + shape(rows, width) + (groups > 1 ? " groups" : "") + (in_place ? " in place" : ""),
                     desc_bytes(desc), false, rows, width * groups, 0, [=](device_session& session, row_slice slice) {
                         moira_rmsnorm_args args{};
                         args.rows = slice.count;
                         args.groups = groups;
                         float* x = session.upload(rows_of(in, stride, slice.begin, slice.count));
                         args.in = x;
                         args.out = in_place ? x : session.reserve(std::uint64_t{slice.count} * stride);
                         args.weight = session.upload(weight);
                         args.in_stride = args.out_stride = stride;
                         args.group_stride = group_stride;
                         case_output out;
                         out.error = session.run(for_rows(desc, slice.count).header, args);
                         const auto all = session.download(args.out, std::uint64_t{slice.count} * stride);
                         for (std::uint32_t vector = 0; vector < slice.count * groups; ++vector) {
                             const auto begin = all.begin() + vector / groups * stride + vector % groups * group_stride;
                             out.values.insert(out.values.end(), begin, begin + width);
                         }
                         return out;
                     }});
}

void add_rope(std::vector<op_case>& cases, std::uint32_t rows, std::uint32_t heads, std::uint32_t width,
              bool interleaved) {
    auto desc = make_desc<moira_rope_desc>(MOIRA_OP_ROPE, rows);
    desc.heads = heads;
    desc.width = width;
    desc.interleaved = interleaved ? 1 : 0;
    desc.positions = 50;
    const std::uint32_t head_stride = width + 4;
    const std::uint32_t row_stride = heads * head_stride + 2;
    std::vector<float> table(std::size_t{desc.positions} * width);
    for (std::uint32_t position = 0; position < desc.positions; ++position) {
        for (std::uint32_t i = 0; i < width / 2; ++i) {
            const double angle = position / std::pow(10000.0, 2.0 * i / width);
            table[std::size_t{position} * width + i] = static_cast<float>(std::cos(angle));
            table[std::size_t{position} * width + width / 2 + i] = static_cast<float>(std::sin(angle));
        }
    }
    const auto x = random_floats(heads + width, std::size_t{rows} * row_stride);
    std::vector<std::int32_t> positions = {0, 49, 1, 7, 7, 30, 12};
    while (positions.size() < rows)
        positions.push_back((positions.back() + 13) % static_cast<std::int32_t>(desc.positions));
    positions.resize(rows);
    cases.push_back(
        {"rope " + std::to_string(heads) + "x" + std::to_string(width) + (interleaved ? " interleaved" : ""),
         desc_bytes(desc), false, rows, row_stride, 0, [=](device_session& session, row_slice slice) {
             moira_rope_args args{};
             args.rows = slice.count;
             args.x = session.upload(rows_of(x, row_stride, slice.begin, slice.count));
             args.row_stride = row_stride;
             args.head_stride = head_stride;
             args.positions = session.upload(rows_of(positions, 1, slice.begin, slice.count));
             args.table = session.upload(table);
             case_output out;
             out.error = session.run(for_rows(desc, slice.count).header, args);
             // Whole rows: what lies between the heads must stay as it was.
             out.values = session.download(args.x, std::uint64_t{slice.count} * row_stride);
             return out;
         }});
}

void add_kv_append(std::vector<op_case>& cases, std::uint32_t rows, std::uint32_t width, std::uint32_t kv_type) {
    auto desc = make_desc<moira_kv_append_desc>(MOIRA_OP_KV_APPEND, rows);
    desc.width = width;
    desc.kv_type = kv_type;
    desc.slots = 2 * rows;
    const std::uint32_t in_stride = width + 3;
    const std::uint32_t slot_stride = width + 9;
    const auto in = random_floats(width, std::size_t{rows} * in_stride);
    std::vector<std::int32_t> slots; // no two alike: 5 shares no factor with 2 * rows
    for (std::uint32_t row = 0; row < rows; ++row)
        slots.push_back(static_cast<std::int32_t>((row * 5 + desc.slots - 1) % desc.slots));
    cases.push_back({"kv_append kv " + type_name(kv_type) + " " + shape(rows, width), desc_bytes(desc), false, rows,
                     slot_stride, 0, [=](device_session& session, row_slice slice) {
                         moira_kv_append_args args{};
                         args.rows = slice.count;
                         args.in = session.upload(rows_of(in, in_stride, slice.begin, slice.count));
                         args.in_stride = in_stride;
                         const auto mine = rows_of(slots, 1, slice.begin, slice.count);
                         args.slots = session.upload(mine);
                         // -3 in both types: what lies between the slots must stay as it was.
                         const bool narrow = kv_type == MOIRA_TYPE_BF16;
                         std::vector<std::uint16_t> halves(std::size_t{desc.slots} * slot_stride * (narrow ? 1 : 2),
                                                           0xC040);
                         if (!narrow)
                             for (std::size_t i = 0; i < halves.size(); i += 2)
                                 halves[i] = 0;
                         auto* pool = session.upload(halves);
                         args.pool = pool;
                         args.slot_stride = slot_stride;
                         case_output out;
                         out.error = session.run(for_rows(desc, slice.count).header, args);
                         const auto stored = session.download(pool, halves.size());
                         std::vector<float> all(std::size_t{desc.slots} * slot_stride);
                         for (std::size_t i = 0; i < all.size(); ++i) {
                             const std::uint32_t upper = narrow ? stored[i] : stored[2 * i + 1];
                             const std::uint32_t lower = narrow ? 0u : stored[2 * i];
                             all[i] = std::bit_cast<float>(upper << 16 | lower);
                         }
                         for (const std::int32_t slot : mine) {
                             const auto begin = all.begin() + slot * static_cast<std::int64_t>(slot_stride);
                             out.values.insert(out.values.end(), begin, begin + slot_stride);
                         }
                         return out;
                     }});
}

void add_combine(std::vector<op_case>& cases, std::uint32_t rows, std::uint32_t width, std::uint32_t top_k,
                 bool shared) {
    auto desc = make_desc<moira_combine_desc>(MOIRA_OP_COMBINE, rows);
    desc.width = width;
    desc.top_k = top_k;
    desc.has_shared = shared ? 1 : 0;
    const auto residual = random_floats(width, std::size_t{rows} * width);
    const auto expert_out = random_floats(width + 1, std::size_t{rows} * top_k * width);
    const auto weights = random_floats(width + 2, std::size_t{rows} * top_k);
    const auto shared_out = random_floats(width + 3, std::size_t{rows} * width);
    cases.push_back({"combine " + shape(rows, width) + " top " + std::to_string(top_k) + (shared ? " shared" : ""),
                     desc_bytes(desc), false, rows, width, 0, [=](device_session& session, row_slice slice) {
                         moira_combine_args args{};
                         args.rows = slice.count;
                         if (top_k > 0) {
                             args.expert_out = session.upload(
                                 rows_of(expert_out, std::size_t{top_k} * width, slice.begin, slice.count));
                             args.weights = session.upload(rows_of(weights, top_k, slice.begin, slice.count));
                         }
                         if (shared)
                             args.shared = session.upload(rows_of(shared_out, width, slice.begin, slice.count));
                         args.residual = session.upload(rows_of(residual, width, slice.begin, slice.count));
                         case_output out;
                         out.error = session.run(for_rows(desc, slice.count).header, args);
                         out.values = session.download(args.residual, std::uint64_t{slice.count} * width);
                         return out;
                     }});
}

/// Logits a distance apart that no rounding closes (so that ids are comparable), in shuffled order; with `ties`, pairs
/// of neighbours are equal.
std::vector<float> spaced_logits(std::uint32_t rows, std::uint32_t experts, bool ties) {
    std::vector<float> logits;
    number_source numbers(rows * 1000 + experts);
    std::vector<std::uint32_t> order(experts);
    for (std::uint32_t row = 0; row < rows; ++row) {
        std::iota(order.begin(), order.end(), 0u);
        for (std::uint32_t i = experts; i > 1; --i)
            std::swap(order[i - 1], order[numbers.below(i)]);
        for (const std::uint32_t place : order) {
            const std::uint32_t step = ties ? place / 2 * 2 : place;
            logits.push_back((static_cast<float>(step) - 0.5f * static_cast<float>(experts)) * 8.0f /
                             static_cast<float>(experts));
        }
    }
    return logits;
}

struct router_shape {
    std::uint32_t experts;
    std::uint32_t top_k;
    std::uint32_t scoring;
    std::uint32_t groups;
    std::uint32_t groups_kept;
    bool bias;
    bool normalize;
    bool ties;
};

void add_router(std::vector<op_case>& cases, const router_shape& given, std::uint32_t rows = 6) {
    auto desc = make_desc<moira_router_topk_desc>(MOIRA_OP_ROUTER_TOPK, rows);
    desc.experts = given.experts;
    desc.top_k = given.top_k;
    desc.scoring = given.scoring;
    desc.has_bias = given.bias ? 1 : 0;
    desc.groups = given.groups;
    desc.groups_kept = given.groups_kept;
    desc.normalize = given.normalize ? 1 : 0;
    desc.scale = 2.5f;
    const auto logits = spaced_logits(rows, given.experts, given.ties);
    // A bias of its own scale, coarser than rounding: multiples of 1/8 minus the score's range.
    std::vector<float> bias(given.experts);
    for (std::uint32_t i = 0; i < given.experts; ++i)
        bias[i] = static_cast<float>(i * 7 % given.experts) * 2.0f;
    static constexpr const char* scorings[] = {"softmax", "sigmoid", "sqrt_softplus"};
    const std::string name = std::string("router_topk ") + scorings[given.scoring] + " " + std::to_string(given.top_k) +
                             " of " + std::to_string(given.experts) + (given.groups > 1 ? " groups" : "") +
                             (given.bias ? " bias" : "") + (given.normalize ? " normalized" : "") +
                             (given.ties ? " ties" : "");
    cases.push_back(
        {name, desc_bytes(desc), false, rows, given.top_k, given.top_k, [=](device_session& session, row_slice slice) {
             moira_router_topk_args args{};
             args.rows = slice.count;
             args.logits = session.upload(rows_of(logits, desc.experts, slice.begin, slice.count));
             args.logits_stride = desc.experts;
             args.bias = desc.has_bias ? session.upload(bias) : nullptr;
             args.ids = session.reserve_ids(std::uint64_t{slice.count} * desc.top_k);
             args.weights = session.reserve(std::uint64_t{slice.count} * desc.top_k);
             case_output out;
             out.error = session.run(for_rows(desc, slice.count).header, args);
             out.values = session.download(args.weights, std::uint64_t{slice.count} * desc.top_k);
             out.ids = session.download(args.ids, std::uint64_t{slice.count} * desc.top_k);
             return out;
         }});
}

} // namespace

void add_row_op_cases(std::vector<op_case>& cases) {
    for (const std::uint32_t type : {MOIRA_TYPE_F32, MOIRA_TYPE_BF16, MOIRA_TYPE_F16}) {
        for (const std::uint32_t width : {1u, 33u, 128u})
            add_embedding(cases, 9, type, width);
    }
    add_rmsnorm(cases, 5, 1, 1, false);
    add_rmsnorm(cases, 5, 33, 1, false);
    add_rmsnorm(cases, 96, 1024, 1, true); // large enough for a team
    add_rmsnorm(cases, 4, 24, 3, true);
    for (const bool interleaved : {false, true}) {
        add_rope(cases, 7, 1, 2, interleaved);
        add_rope(cases, 7, 3, 6, interleaved);
        add_rope(cases, 7, 4, 64, interleaved);
        add_rope(cases, 7, 2, 34, interleaved);
    }
    for (const std::uint32_t width : {1u, 35u, 256u})
        for (const std::uint32_t type : {MOIRA_TYPE_F32, MOIRA_TYPE_BF16})
            add_kv_append(cases, 6, width, type);
    add_combine(cases, 5, 1, 1, true);
    add_combine(cases, 5, 37, 0, true);
    add_combine(cases, 7, 64, 6, false);
    add_combine(cases, 64, 512, 8, true); // large enough for a team
}

void add_router_cases(std::vector<op_case>& cases) {
    for (const std::uint32_t scoring : {MOIRA_SCORE_SOFTMAX, MOIRA_SCORE_SIGMOID, MOIRA_SCORE_SQRT_SOFTPLUS}) {
        add_router(cases, {1, 1, scoring, 1, 1, false, true, false});
        add_router(cases, {13, 4, scoring, 1, 1, false, true, false});
        add_router(cases, {64, 8, scoring, 1, 1, true, false, false});
        add_router(cases, {32, 6, scoring, 8, 3, true, true, false});
        add_router(cases, {20, 5, scoring, 1, 1, false, true, true});
        add_router(cases, {7, 7, scoring, 1, 1, false, false, false}); // all of them
    }
    add_router(cases, {256, 8, MOIRA_SCORE_SIGMOID, 8, 4, true, true, false}); // DeepSeek-V3's
    add_router(cases, {24, 9, MOIRA_SCORE_SOFTMAX, 4, 2, false, true, true});
}

void add_row_op_sweep(std::vector<op_case>& cases, std::uint32_t rows) {
    for (const std::uint32_t type : {MOIRA_TYPE_F32, MOIRA_TYPE_BF16, MOIRA_TYPE_F16})
        add_embedding(cases, rows, type, 33);
    add_rmsnorm(cases, rows, 33, 1, false);
    add_rmsnorm(cases, rows, 1024, 1, true);
    add_rmsnorm(cases, rows, 24, 3, true);
    for (const bool interleaved : {false, true})
        add_rope(cases, rows, 4, 64, interleaved);
    for (const std::uint32_t type : {MOIRA_TYPE_F32, MOIRA_TYPE_BF16})
        add_kv_append(cases, rows, 35, type);
    add_combine(cases, rows, 64, 6, true);
    add_router(cases, {64, 8, MOIRA_SCORE_SOFTMAX, 1, 1, false, true, false}, rows);
    add_router(cases, {256, 8, MOIRA_SCORE_SIGMOID, 8, 4, true, true, false}, rows);
    add_router(cases, {20, 5, MOIRA_SCORE_SQRT_SOFTPLUS, 1, 1, true, false, true}, rows);
}

} // namespace moira
