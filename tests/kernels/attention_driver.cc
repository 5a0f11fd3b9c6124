// Runs the kernels of attention.h on odd shapes; exits with 1 if they are
// wrong.

#include "attention.h"
#include "cpu_driver.h"
#include "tasks.h"

namespace {

using Matrix = std::vector<std::vector<double>>;

// Compares values that may be near 0, and are a few units at most.
void CompareNear(const char* what, const std::vector<int64_t>& sizes,
                 float found, double expected) {
  Compare(what, sizes, found + 8, expected + 8, 2e-6f);
}

// Returns a head of an image, [N, D].
Matrix Head(const float* from, int64_t stride, const Heads& s) {
  Matrix rows(s.tokens, std::vector<double>(s.channels));
  for (int64_t n = 0; n < s.tokens; ++n) {
    for (int64_t d = 0; d < s.channels; ++d) rows[n][d] = from[n * stride + d];
  }
  return rows;
}

// Returns a b^T.
Matrix Multiply(const Matrix& a, const Matrix& b) {
  Matrix products(a.size(), std::vector<double>(b.size()));
  for (size_t n = 0; n < a.size(); ++n) {
    for (size_t m = 0; m < b.size(); ++m) {
      for (size_t d = 0; d < a[n].size(); ++d) {
        products[n][m] += a[n][d] * b[m][d];
      }
    }
  }
  return products;
}

Matrix Transpose(const Matrix& a, size_t columns) {
  Matrix result(columns, std::vector<double>(a.size()));
  for (size_t n = 0; n < a.size(); ++n) {
    for (size_t m = 0; m < columns; ++m) result[m][n] = a[n][m];
  }
  return result;
}

Matrix Softmax(Matrix scores, double scale) {
  for (auto& row : scores) {
    double sum = 0;
    for (double& value : row) sum += value = std::exp(value * scale);
    for (double& value : row) value /= sum;
  }
  return scores;
}

void CompareHead(const char* what, const std::vector<int64_t>& sizes,
                 const float* found, int64_t stride, const Matrix& expected) {
  for (size_t n = 0; n < expected.size(); ++n) {
    for (size_t d = 0; d < expected[n].size(); ++d) {
      CompareNear(what, sizes, found[n * stride + d], expected[n][d]);
    }
  }
}

void Check(const Heads& s) {
  const std::vector<int64_t> sizes{s.batch, s.tokens, s.heads, s.channels};
  const int64_t size = s.batch * s.tokens * s.width(), stride = 3 * s.width();
  const auto qkv = Make<float>(3 * size, 1), g = Make<float>(size, 2);
  std::vector<float> y(size), y_forward(size), dqkv(3 * size);
  std::vector<float> p(s.tasks() * s.tokens * s.tokens);
  const auto run = [](auto worker, const auto& arguments) {
    Threads threads;
    RunAll<typename decltype(worker)::type>(threads, arguments);
  };
  struct Forward { using type = AttentionWorker; };
  struct Gradient { using type = AttentionGradientWorker; };
  run(Forward(), AttentionWorker::Arguments{s, qkv.data(), y.data(), nullptr});
  run(Forward(), AttentionWorker::Arguments{s, qkv.data(), y_forward.data(),
                                            p.data()});
  run(Gradient(), AttentionGradientWorker::Arguments{
                      s, qkv.data(), p.data(), y_forward.data(), g.data(),
                      dqkv.data()});
  const double scale = 1 / std::sqrt(static_cast<double>(s.channels));
  for (int64_t task = 0; task < s.tasks(); ++task) {
    const auto part = [&](int which) {
      return Head(s.Of(qkv.data(), task, which), stride, s);
    };
    const Matrix q = part(0), k = part(1), v = part(2);
    const Matrix dy = Head(s.OfResult(g.data(), task), s.width(), s);
    const auto transpose = [&](const Matrix& a) {
      return Transpose(a, s.channels);
    };
    const Matrix weights = Softmax(Multiply(q, k), scale);
    const Matrix result = Multiply(weights, transpose(v));
    Matrix slopes = Multiply(dy, v);
    for (int64_t n = 0; n < s.tokens; ++n) {
      double sum = 0;
      for (int64_t m = 0; m < s.tokens; ++m) {
        sum += weights[n][m] * slopes[n][m];
      }
      for (int64_t m = 0; m < s.tokens; ++m) {
        slopes[n][m] = weights[n][m] * (slopes[n][m] - sum) * scale;
      }
    }
    const Matrix over_keys = Transpose(slopes, s.tokens);
    CompareHead("y", sizes, s.OfResult(y.data(), task), s.width(), result);
    CompareHead("y of forward", sizes, s.OfResult(y_forward.data(), task),
                s.width(), result);
    CompareHead("p", sizes, p.data() + task * s.tokens * s.tokens, s.tokens,
                weights);
    CompareHead("dq", sizes, s.Of(dqkv.data(), task, 0), stride,
                Multiply(slopes, transpose(k)));
    CompareHead("dk", sizes, s.Of(dqkv.data(), task, 1), stride,
                Multiply(over_keys, transpose(q)));
    CompareHead("dv", sizes, s.Of(dqkv.data(), task, 2), stride,
                Multiply(Transpose(weights, s.tokens), transpose(dy)));
  }
}

}  // namespace

int main() {
  for (const Heads& s :
       {Heads{1, 1, 1, 1}, Heads{2, 5, 3, 4}, Heads{1, 49, 2, 64},
        Heads{1, 101, 1, 33}, Heads{2, 17, 2, 100}, Heads{0, 4, 2, 8}}) {
    Check(s);
  }
  return wrong != 0;
}
