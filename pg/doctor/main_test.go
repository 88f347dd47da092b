package doctor_test

import (
	"os"
	"testing"

	"attune/pg/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
