// The workers, as they are now.
import { renewEvery } from "./renewal.js";

renewEvery(3000, document.getElementById("rows"), "/ui/workers?fragment=true");
