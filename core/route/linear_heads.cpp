#include "core/route/linear_heads.hpp"

#include <algorithm>

namespace moira {

std::vector<float> linear_heads::matrix(const linear_head& head) const {
    const auto columns = static_cast<std::size_t>(hidden), inner = static_cast<std::size_t>(rank);
    std::vector<float> whole(static_cast<std::size_t>(experts) * columns, 0.0F);
    for (std::size_t expert = 0; expert < static_cast<std::size_t>(experts); ++expert)
        for (std::size_t r = 0; r < inner; ++r) {
            const float factor = head.up[expert * inner + r];
            for (std::size_t column = 0; column < columns; ++column)
                whole[expert * columns + column] += factor * head.down[r * columns + column];
        }
    return whole;
}

void linear_heads::score(const linear_head& head, std::span<const float> state, std::span<float> scores) const {
    const auto columns = static_cast<std::size_t>(hidden), inner = static_cast<std::size_t>(rank);
    std::copy(head.bias.begin(), head.bias.end(), scores.begin());
    for (std::size_t r = 0; r < inner; ++r) {
        float sum = 0;
        for (std::size_t column = 0; column < columns; ++column)
            sum += head.down[r * columns + column] * state[column];
        for (std::size_t expert = 0; expert < scores.size(); ++expert)
            scores[expert] += head.up[expert * inner + r] * sum;
    }
}

} // namespace moira
