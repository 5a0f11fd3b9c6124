// Runs the kernel of transpose.h on odd shapes; exits with 1 if it is wrong.

#include "transpose.h"

#include "cpu_driver.h"
#include "tasks.h"

namespace {

void Check(const Transposed& s) {
  const std::vector<int64_t> sizes{s.batch, s.rows, s.columns};
  std::vector<float> x(s.batch * s.rows * s.columns), y(x.size());
  for (size_t at = 0; at < x.size(); ++at) x[at] = at;
  {
    Threads threads;
    RunAll<TransposeWorker>(threads, {s, x.data(), y.data()});
  }
  for (int64_t image = 0; image < s.batch; ++image) {
    for (int64_t row = 0; row < s.rows; ++row) {
      for (int64_t column = 0; column < s.columns; ++column) {
        const float found =
            y[(image * s.columns + column) * s.rows + row];
        Compare("value", sizes, found,
                x[(image * s.rows + row) * s.columns + column], 0);
      }
    }
  }
}

}  // namespace

int main() {
  for (const Transposed& s : {Transposed{1, 1, 1}, Transposed{2, 16, 48},
                              Transposed{3, 33, 17}, Transposed{0, 4, 4},
                              Transposed{1, 5, 70}, Transposed{2, 47, 3}}) {
    Check(s);
  }
  return wrong != 0;
}
